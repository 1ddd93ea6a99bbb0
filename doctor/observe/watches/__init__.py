"""Watches: every module here adds something to what is observed; see `doctor.observe.watch`."""
