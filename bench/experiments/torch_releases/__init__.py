"""Releases of torch, each held against the one before by the gate -> a section of the report."""
