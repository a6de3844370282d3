"""Samples -> estimates: centres and intervals over processes, exponents of growth.

NumPy and SciPy only.
"""
