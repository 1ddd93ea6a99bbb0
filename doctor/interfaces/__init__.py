"""Signatures and graphs of exported files, read and never executed: one module a format."""
