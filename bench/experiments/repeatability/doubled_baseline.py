"""A kernel file: the gradient operation's baseline, its work done exactly twice."""

from bench.experiments.repeatability.analysis import TWICE
from mlr import get_kernel, kernel

_baseline = get_kernel("autograd")
_work = _baseline.function


def _twice(x, delta):  # type: ignore[no-untyped-def]
    _work(x, delta)
    return _work(x, delta)


_twice.__name__ = TWICE
kernel(
    operation=_baseline.operation,
    flops=lambda m, n, o, s: 2 * _baseline.flops(m, n, o, s),
    bytes_moved=lambda m, n, o, s: 2 * _baseline.bytes_moved(m, n, o, s),
    workspace=lambda m, n, o, s: _baseline.workspace(m, n, o, s) + (n * o + o) * s,
)(_twice)
