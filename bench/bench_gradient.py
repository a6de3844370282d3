"""The gradient stage: one benchmark for every kernel and case."""

from collections.abc import Callable


def bench_gradient(measure: Callable[[], None]) -> None:
    """Check, time and weigh one kernel of the gradient stage on one case."""
    measure()
