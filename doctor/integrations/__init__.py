"""Where people already are: pytest, notebooks, callbacks."""
