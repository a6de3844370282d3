"""The fit stage: one benchmark for every kernel and case."""

from collections.abc import Callable


def bench_fit(
    kernel: str,
    device: str,
    dtype: str,
    batch: int,
    in_features: int,
    out_features: int,
    measure: Callable[[], None],
) -> None:
    """Check, time and weigh one kernel of the fit stage on one case."""
    measure()
