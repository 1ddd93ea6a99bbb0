"""How a running program is watched. Lives in the user's process; imports nothing of the rest."""
