"""Rules of the family gradients."""
