"""Metamorphic experiments: a captured call made again with changed inputs, once the program has ended."""
