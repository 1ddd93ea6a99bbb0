"""What is examined: programs, datasets, artifacts."""
