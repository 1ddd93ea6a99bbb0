"""Rules on privacy: personal data and secrets."""
