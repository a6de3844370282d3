"""The step stage: one benchmark for every kernel and case."""

from collections.abc import Callable


def bench_step(measure: Callable[[], None]) -> None:
    """Check, time and weigh one kernel of the step stage on one case."""
    measure()
