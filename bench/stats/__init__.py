"""Samples -> estimates: centres, their intervals, exact tests. NumPy and SciPy only."""
