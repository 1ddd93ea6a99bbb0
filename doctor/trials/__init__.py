"""The reference training: treatments, the arms in which they are applied, statistics, verdicts."""
