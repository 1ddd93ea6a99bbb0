"""An artifact at work: run in a child process beside its reference, and compared. Imported by that child only."""
