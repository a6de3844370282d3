"""The one-pass step on CUDA, in Triton: programs sweep blocks of rows, a second kernel adds up.

`sweep` holds W and b in registers, reads each row of X and Y once, and keeps XᵀR and 1ᵀR of its
rows; what it found it writes to a place of its own. `finish` adds the places in a fixed order and
updates W and b. No atomics: the result is the same on every run. Sums are in float32, and in
float64 where the inputs are.

Sizes are padded to powers of two of at least 16, which a product of Triton takes. float32 products
are not rounded to TF32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch_grid, padded


@triton.jit
def sweep(
    x, y, weight, bias, weight_sums, bias_sums, rows, programs,
    IN: tl.constexpr, OUT: tl.constexpr, INS: tl.constexpr, OUTS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Sum XᵀR and 1ᵀR over the blocks of rows `program`, `program + programs` and so on."""
    program = tl.program_id(0)
    feature, output, line = tl.arange(0, INS), tl.arange(0, OUTS), tl.arange(0, ROWS)
    inside = (feature[:, None] < IN) & (output[None, :] < OUT)
    total = weight_sums.dtype.element_ty
    w = tl.load(weight + feature[:, None] * OUT + output[None, :], mask=inside, other=0.0).to(total)
    b = tl.load(bias + output, mask=output < OUT, other=0.0).to(total)
    by_weight = tl.zeros((INS, OUTS), dtype=total)
    by_bias = tl.zeros((OUTS,), dtype=total)
    for first in range(program * ROWS, rows, programs * ROWS):
        row = (first + line).to(tl.int64)
        there = row[:, None] < rows
        x_there, y_there = there & (feature[None, :] < IN), there & (output[None, :] < OUT)
        x_place = x + row[:, None] * IN + feature[None, :]
        y_place = y + row[:, None] * OUT + output[None, :]
        x_block = tl.load(x_place, mask=x_there, other=0.0).to(total)
        y_block = tl.load(y_place, mask=y_there, other=0.0).to(total)
        predicted = tl.dot(x_block, w, input_precision="ieee", out_dtype=total) + b[None, :]
        residual = tl.where(there, predicted - y_block, 0.0)
        by_weight += tl.dot(tl.trans(x_block), residual, input_precision="ieee", out_dtype=total)
        by_bias += tl.sum(residual, 0)
    tl.store(
        weight_sums + program * INS * OUTS + feature[:, None] * OUTS + output[None, :], by_weight
    )
    tl.store(bias_sums + program * OUTS + output, by_bias)


@triton.jit
def finish(
    weight, bias, weight_sums, bias_sums, rate, programs,
    IN: tl.constexpr, OUT: tl.constexpr, INS: tl.constexpr, OUTS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Update one row of W, or b in the last program, by the sums of all programs."""
    feature = tl.program_id(0)
    output, part = tl.arange(0, OUTS), tl.arange(0, PARTS)
    there = part[:, None] < programs
    if feature < IN:
        found = tl.load(
            weight_sums + part[:, None] * INS * OUTS + feature * OUTS + output[None, :],
            mask=there, other=0.0,
        )  # fmt: skip
        target = weight + feature * OUT + output
    else:
        found = tl.load(bias_sums + part[:, None] * OUTS + output[None, :], mask=there, other=0.0)
        target = bias + output
    total = tl.sum(found, 0)
    before = tl.load(target, mask=output < OUT, other=0.0)
    after = before.to(total.dtype) - tl.load(rate).to(total.dtype) * total
    tl.store(target, after.to(before.dtype), mask=output < OUT)


def sums_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return what sums are held in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def bind_step(
    x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, rate: float, processors: int
) -> Callable[[], None]:
    """Return the call that makes one step in place: W −= η·XᵀR, b −= η·1ᵀR.

    Shapes: x (m, n), y (m, o), weight (n, o), bias (o); all contiguous, on one device.

    Args:
        x: Inputs X.
        y: Targets Y.
        weight: W, changed by every call.
        bias: b, changed by every call.
        rate: η.
        processors: Multiprocessors of the device.
    """
    (m, n), o = x.shape, y.shape[1]
    rows, programs = launch_grid(m, n, processors)
    n_padded, o_padded = padded(n), padded(o)
    held = sums_dtype(x.dtype)
    weight_sums = torch.empty(programs, n_padded, o_padded, dtype=held, device=x.device)
    bias_sums = torch.empty(programs, o_padded, dtype=held, device=x.device)
    # A number would be passed as a float32.
    held_rate = torch.tensor([rate], dtype=torch.float64, device=x.device)
    sizes = {"IN": n, "OUT": o, "INS": n_padded, "OUTS": o_padded}

    def step() -> None:
        sweep[(programs,)](
            x, y, weight, bias, weight_sums, bias_sums, m, programs, ROWS=rows, **sizes
        )
        finish[(n + 1,)](
            weight, bias, weight_sums, bias_sums, held_rate, programs,
            PARTS=padded(programs), **sizes,
        )  # fmt: skip

    return step
