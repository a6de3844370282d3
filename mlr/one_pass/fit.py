"""Train on mini-batches, and find a loss, by compiled sweeps, bound once for many calls."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from torch import Tensor

from ..case import Gradient
from ..training import Losses
from .bind import bind_sweep, thread_count
from .codegen import LOSSES

_Numbers = ctypes.c_double * LOSSES
_MOST_FLOPS = 2**30  # of one call, which an interrupt waits for: a tenth of a second


def sweep_epochs(
    x: Tensor,
    y: Tensor,
    parameters: Gradient,
    lr: float | int,
    batch_size: int,
    epochs: int,
    valid: tuple[Tensor, Tensor] | None,
    *,
    together: bool,
) -> Iterator[Losses]:
    """Train for some epochs, and yield the losses of each.

    Shapes, and what a loss is, as of `bind_epoch`; valid: X (v, n) and Y (v, o).

    Args:
        x: Inputs X.
        y: Targets Y.
        parameters: W and b.
        lr: η.
        batch_size: Rows of a mini-batch; the last may be short.
        epochs: How many.
        valid: Inputs and targets whose loss each epoch ends with.
        together: Whether many may have been trained when the losses of the first are known: then
            that takes one call, and their losses on `valid` another, which reads it once.
    """
    (m, n), o = x.shape, y.shape[1]
    if together and trains_together(m, n, o, batch_size, epochs):
        run = _bind_epochs(x, y, parameters, lr, batch_size, valid)
        for _ in range(epochs // LOSSES):
            yield from run()
        epochs %= LOSSES
    if epochs:
        run_epoch = bind_epoch(x, y, parameters, lr, batch_size)
        evaluate = None if valid is None else bind_loss(*valid, parameters)
        for _ in range(epochs):
            yield run_epoch(), None if evaluate is None else evaluate()


def trains_together(m: int, n: int, o: int, batch_size: int, epochs: int) -> bool:
    """Say whether one call trains on m rows for `LOSSES` epochs: in one thread, and not for long.

    >>> trains_together(100, 6, 3, 33, epochs=16), trains_together(10**8, 6, 3, 33, epochs=16)
    (True, False)
    """
    short = 4 * m * n * o * LOSSES < _MOST_FLOPS
    return short and epochs >= LOSSES and thread_count(min(batch_size, m), n, o) == 1


def losses_threads(m: int, n: int, o: int) -> int:
    """Return how many threads share m rows, each of which is worth the losses of many epochs."""
    return thread_count(m * LOSSES // 2, n, o)


def _bind_epochs(
    x: Tensor,
    y: Tensor,
    parameters: Gradient,
    lr: float | int,
    batch_size: int,
    valid: tuple[Tensor, Tensor] | None,
) -> Callable[[], Iterable[Losses]]:
    """Return the call that trains for `LOSSES` epochs and returns the losses of each."""
    (m, n), o = x.shape, y.shape[1]
    batch = min(batch_size, m)
    count, kept = -(-m // batch), None
    found, found_valid = _Numbers(), _Numbers()
    calls = []
    if valid is not None:
        kept, rows = x.new_empty(LOSSES, n + 1, o), valid[0].shape[0]
        calls.append(
            bind_sweep(
                "losses", valid[0].contiguous(), valid[1].contiguous(), Gradient(kept, kept),
                threads=losses_threads(rows, n, o), loss=ctypes.addressof(found_valid),
            )
        )  # fmt: skip
    train = bind_sweep(
        "train", x.contiguous(), y.contiguous(), parameters, rate=2 * lr, threads=1, batch=batch,
        loss=ctypes.addressof(found), epochs=LOSSES, kept=kept,
    )  # fmt: skip

    def run() -> Iterable[Losses]:
        found[:] = found_valid[:] = [0.0] * LOSSES
        for call in (train, *calls):
            call()
        means = [total / count for total in found]
        return zip(means, found_valid if calls else [None] * LOSSES, strict=True)

    return run


def bind_epoch(
    x: Tensor,
    y: Tensor,
    parameters: Gradient,
    lr: float | int,
    batch_size: int,
    target: Gradient | None = None,
) -> Callable[[], float]:
    """Return the call that takes a step on each mini-batch in order, and returns their mean loss.

    W −= η·∂L/∂W, b −= η·∂L/∂b, L = mean((XW + b − Y)²) of a mini-batch before its step. Compiled
    code goes through all mini-batches in one call, unless threads share the rows of each.

    Shapes: x (m, n), y (m, o), W (n, o), b (o), float32 or float64; parameters and target are
    contiguous.

    Args:
        x: Inputs X.
        y: Targets Y.
        parameters: W and b.
        lr: η.
        batch_size: Rows of a mini-batch; the last may be short.
        target: What is changed in place of W and b, which then stay as they are.
    """
    x, y, batch_size = x.contiguous(), y.contiguous(), min(batch_size, x.shape[0])
    loss = ctypes.c_double()
    bind = partial(bind_sweep, "train", rate=2 * lr, loss=ctypes.addressof(loss), target=target)
    if thread_count(batch_size, x.shape[1], y.shape[1]) == 1:
        calls = [bind(x, y, parameters, threads=1, batch=batch_size)]
    else:
        batches = zip(x.split(batch_size), y.split(batch_size), strict=True)
        calls = [bind(rows, targets, parameters) for rows, targets in batches]
    count = -(-x.shape[0] // batch_size)

    def run_epoch() -> float:
        loss.value = 0.0
        for call in calls:
            call()
        return loss.value / count

    return run_epoch


def bind_loss(x: Tensor, y: Tensor, parameters: Gradient) -> Callable[[], float]:
    """Return the call that returns L = mean((XW + b − Y)²); nothing of m numbers is held.

    Shapes as of `bind_epoch`.
    """
    loss = ctypes.c_double()
    call = bind_sweep(
        "loss", x.contiguous(), y.contiguous(), parameters, loss=ctypes.addressof(loss)
    )

    def measure_loss() -> float:
        loss.value = 0.0
        call()
        return loss.value

    return measure_loss
