"""Rules on exported artifacts: their files, their safety, their weights, their keys against the training code."""
