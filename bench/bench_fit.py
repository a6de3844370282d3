"""The fit stage: one benchmark for every kernel and case."""

from collections.abc import Callable


def bench_fit(measure: Callable[[], None]) -> None:
    """Check, time and weigh one kernel of the fit stage on one case."""
    measure()
