"""Train on mini-batches, and find a loss, by compiled sweeps, bound once for many calls."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial

from torch import Tensor

from ..case import Gradient
from .bind import bind_sweep, thread_count


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
    x, y, batch_size = x.contiguous(), y.contiguous(), min(batch_size, len(x))
    loss = ctypes.c_double()
    bind = partial(bind_sweep, "train", rate=2 * lr, loss=ctypes.addressof(loss), target=target)
    if thread_count(batch_size, x.shape[1], y.shape[1]) == 1:
        calls = [bind(x, y, parameters, threads=1, batch=batch_size)]
    else:
        batches = zip(x.split(batch_size), y.split(batch_size), strict=True)
        calls = [bind(rows, targets, parameters) for rows, targets in batches]
    count = -(-len(x) // batch_size)

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
