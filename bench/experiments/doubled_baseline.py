"""A kernel file: the gradient operation's baseline, its work done exactly twice."""

from mlr import get_kernel, kernel

_baseline = get_kernel("autograd")
_work = _baseline.function


@kernel(
    operation=_baseline.operation,
    flops=lambda m, n, o, s: 2 * _baseline.flops(m, n, o, s),
    workspace=lambda m, n, o, s: _baseline.workspace(m, n, o, s) + (n * o + o) * s,
)
def baseline_twice(x, delta):  # type: ignore[no-untyped-def]
    """Do it twice; `repeatability.TWICE` is its name."""
    _work(x, delta)
    return _work(x, delta)
