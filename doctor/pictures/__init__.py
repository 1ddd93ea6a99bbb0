"""What a page shows of a data set beside its findings: class balance, gaps, distributions, rows, images, sounds, texts.

Made only when a page is asked for, from what the rules had gathered; of files only the few that are shown are read again.
"""
