"""Samples -> estimates: centres and intervals over processes, exponents of growth.

NumPy and SciPy only.
"""

from .estimators import (
    Estimate,
    Prior,
    common_prior,
    estimate,
    geometric_mean,
    hodges_lehmann,
    quartiles,
)

__all__ = [
    "Estimate",
    "Prior",
    "common_prior",
    "estimate",
    "geometric_mean",
    "hodges_lehmann",
    "quartiles",
]
