"""The built-in rule sets: one folder a family, one small module a rule or a few close rules."""
