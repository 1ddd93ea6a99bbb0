"""Readers of file formats. They parse, and never execute, unpickle or import what they read; memory is bounded."""
