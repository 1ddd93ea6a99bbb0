"""Evidence: typed, immutable records of one measurement each, and the probes that fill them from a recording."""
