"""Tables of any engine: one definition of every measurement as SQL over columns c0, c1, ..., run where the data lies."""
