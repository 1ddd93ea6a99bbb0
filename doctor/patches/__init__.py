"""Cures as patches: edits of the user's source as plain data, the surgery that makes them, and what fits a finding.

`edits` are data and import nothing heavy; `surgery` makes them on the concrete syntax tree (libcst);
`prescriptions` say which edit cures which finding where its rule attached none.
"""
