"""One benchmark for every planned operation, kernel and case."""

from collections.abc import Callable


def bench_kernel(measure: Callable[[], None]) -> None:
    """Verify one kernel on one case, and measure its time and memory."""
    measure()
