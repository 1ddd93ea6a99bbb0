"""Rules of the family evaluation."""
