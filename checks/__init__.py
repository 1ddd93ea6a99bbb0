"""The built-in rule sets: one folder a family, one small module a rule or a few close rules."""

NAMES_ITS_EVIDENCE = True  # every module here writes out `doctor.evidence.x` of all that its rules look at
