"""The one-pass step and gradient on CUDA, in Triton: programs sweep the rows, a second kernel adds.

`sweep` reads each row of X and Y once. Each thread keeps sums of its own rows, XᵀR and 1ᵀR, in
registers until the end, so that a row costs little more than its loads and multiply-adds: no
shared memory, no barrier. For a large W in float64 `sweep_blocks` multiplies whole blocks of rows.
What a program found it writes to a place of its own. `finish` adds the places in a fixed order and
uses the totals. No atomics: the result is the same on every run. Sums are in float32, and in
float64 where the inputs are.

W and b are given for a step, where R = XW + b − Y, and are None for a gradient, where R = Y is δ.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..case import Gradient
from .launch import VECTOR_BYTES, Layout, launch_grid, layout

PARTS = 512  # sums of one number that `finish` loads at once


# The checker of types that the tests switch on would hide the names that a kernel uses.
@triton.jit
@no_type_check
def load_weight(
    weight, IN: tl.constexpr, OUT: tl.constexpr, OUTS: tl.constexpr, WIDTH: tl.constexpr,
    CHUNKS: tl.constexpr, total: tl.constexpr,
):  # fmt: skip
    """Return W for each output and chunk of features, zero beyond the last feature."""
    column = tl.arange(0, WIDTH)
    found = ()
    for j in tl.static_range(OUTS):
        for c in tl.static_range(CHUNKS):
            feature = c * WIDTH + column
            number = tl.load(weight + feature * OUT + j, mask=feature < IN, other=0.0)
            found = found + (number.to(total),)
    return found


@triton.jit
@no_type_check
def residuals_of(features, w, b, targets, inside, OUTS: tl.constexpr, CHUNKS: tl.constexpr):
    """Return XW + b − Y for each output, zero outside the rows."""
    found = ()
    for j in tl.static_range(OUTS):
        products = features[0] * w[j * CHUNKS][None, :]
        for c in tl.static_range(1, CHUNKS):
            products += features[c] * w[j * CHUNKS + c][None, :]
        residual = tl.sum(products, 1) + b[j] - targets[j]
        found = found + (tl.where(inside, residual, 0.0),)
    return found


@triton.jit(do_not_specialize=["rows"])
@no_type_check
def sweep(
    x, y, weight, bias, sums, rows: tl.int64,
    IN: tl.constexpr, OUT: tl.constexpr,
    OUTS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Sum XᵀR and 1ᵀR over the blocks of rows `program`, `program + programs` and so on.

    Features come in chunks of WIDTH. The last part of the outputs starts early rather than to end
    beyond the last output: what two programs sum they sum alike.
    """
    CHUNKS: tl.constexpr = (IN + WIDTH - 1) // WIDTH
    line, column = tl.arange(0, ROWS), tl.arange(0, WIDTH)
    output = tl.minimum(tl.program_id(0) * OUTS, OUT - OUTS)  # the first of the program
    program, programs = tl.program_id(1).to(tl.int64), tl.num_programs(1).to(tl.int64)
    total = sums.dtype.element_ty
    b, by_bias, by_weight = (), (), ()
    for j in tl.static_range(OUTS):
        if weight is not None:
            b = b + (tl.load(bias + output + j).to(total),)
        by_bias = by_bias + (tl.zeros((ROWS,), dtype=total),)
        for _ in tl.static_range(CHUNKS):
            by_weight = by_weight + (tl.zeros((ROWS, WIDTH), dtype=total),)
    if weight is not None:
        w = load_weight(weight + output, IN, OUT, OUTS, WIDTH, CHUNKS, total)
    for first in range(program * ROWS, rows, programs * ROWS):
        row = first + line
        inside = row < rows
        features, residuals = (), ()
        for c in tl.static_range(CHUNKS):
            known = inside[:, None] & (c * WIDTH + column < IN)[None, :]
            source = x + (row * IN)[:, None] + (c * WIDTH + column)[None, :]
            features = features + (tl.load(source, mask=known, other=0.0).to(total),)
        for j in tl.static_range(OUTS):
            target = tl.load(y + row * OUT + output + j, mask=inside, other=0.0)
            residuals = residuals + (target.to(total),)
        if weight is not None:
            residuals = residuals_of(features, w, b, residuals, inside, OUTS, CHUNKS)
        new_weight, new_bias = (), ()
        for j in tl.static_range(OUTS):
            new_bias = new_bias + (by_bias[j] + residuals[j],)
            for c in tl.static_range(CHUNKS):
                product = features[c] * residuals[j][:, None]
                new_weight = new_weight + (by_weight[j * CHUNKS + c] + product,)
        by_weight, by_bias = new_weight, new_bias
    sums += output.to(tl.int64) * programs + program
    for j in tl.static_range(OUTS):
        tl.store(sums + (IN * OUT + j) * programs, tl.sum(by_bias[j], 0))
        for c in tl.static_range(CHUNKS):
            feature = c * WIDTH + column
            place = sums + (feature * OUT + j) * programs
            tl.store(place, tl.sum(by_weight[j * CHUNKS + c], 0), mask=feature < IN)


@triton.jit(do_not_specialize=["rows"])
@no_type_check
def sweep_blocks(
    x, y, weight, bias, sums, rows: tl.int64,
    IN: tl.constexpr, OUT: tl.constexpr,
    OUTS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Sum as `sweep` does in a step, by products of whole blocks of rows, all in float64.

    All outputs are padded to OUTS, all features to WIDTH.
    """
    feature, output, line = tl.arange(0, WIDTH), tl.arange(0, OUTS), tl.arange(0, ROWS)
    known = (feature[:, None] < IN) & (output[None, :] < OUT)
    program, programs = tl.program_id(1).to(tl.int64), tl.num_programs(1).to(tl.int64)
    place = feature[:, None] * OUT + output[None, :]
    w = tl.load(weight + place, mask=known, other=0.0)
    b = tl.load(bias + output, mask=output < OUT, other=0.0)
    by_weight = tl.zeros((WIDTH, OUTS), dtype=tl.float64)
    by_bias = tl.zeros((OUTS,), dtype=tl.float64)
    for first in range(program * ROWS, rows, programs * ROWS):
        row = (first + line)[:, None]
        inside = row < rows
        x_there, y_there = inside & (feature[None, :] < IN), inside & (output[None, :] < OUT)
        x_block = tl.load(x + row * IN + feature[None, :], mask=x_there, other=0.0)
        y_block = tl.load(y + row * OUT + output[None, :], mask=y_there, other=0.0)
        predicted = tl.dot(x_block, w, out_dtype=tl.float64) + b[None, :]
        residual = tl.where(inside, predicted - y_block, 0.0)
        by_weight += tl.dot(tl.trans(x_block), residual, out_dtype=tl.float64)
        by_bias += tl.sum(residual, 0)
    tl.store(sums + place * programs + program, by_weight, mask=known)
    tl.store(sums + (IN * OUT + output) * programs + program, by_bias, mask=output < OUT)


@triton.jit(do_not_specialize=["programs", "products"])
@no_type_check
def finish(
    weight, bias, sums, rate, programs: tl.int64, products: tl.int64, PARTS: tl.constexpr
):  # fmt: skip
    """Add up what all programs found for one number of W or b; update it, or store the total."""
    number = tl.program_id(0).to(tl.int64)
    part = tl.arange(0, PARTS)
    found = tl.zeros((PARTS,), dtype=sums.dtype.element_ty)
    for first in range(0, programs, PARTS):
        there = first + part < programs
        found += tl.load(sums + number * programs + first + part, mask=there, other=0.0)
    total = tl.sum(found, 0)
    if number < products:
        place = weight + number
    else:
        place = bias + (number - products)
    if rate is not None:
        total = tl.load(place).to(total.dtype) - tl.load(rate).to(total.dtype) * total
    tl.store(place, total.to(place.dtype.element_ty))


def sums_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return what sums are held in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _layout(operation: str, n: int, o: int, dtype: torch.dtype) -> Layout:
    laid_out = layout(operation, n, o, dtype.itemsize)
    assert laid_out is not None, "what does not fit is refused before it is bound"
    return laid_out


def bind_step(
    x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, rate: float, processors: int
) -> Callable[[], None]:
    """Return the call that makes one step in place: W −= η·XᵀR, b −= η·1ᵀR.

    Shapes: x (m, n), y (m, o), weight (n, o), bias (o); all contiguous, on one device, the current
    one.

    Args:
        x: Inputs X.
        y: Targets Y.
        weight: W, changed by every call.
        bias: b, changed by every call.
        rate: η.
        processors: Multiprocessors of the device.
    """
    (m, n), o = x.shape, y.shape[1]
    laid_out = _layout("step", n, o, x.dtype)
    parts, programs = launch_grid(laid_out, m, o, processors)
    sums = torch.empty(programs * (n + 1) * o, dtype=sums_dtype(x.dtype), device=x.device)
    # A number would be passed as a float32.
    held_rate = torch.tensor([rate], dtype=torch.float64, device=x.device)
    swept = sweep_blocks if laid_out.blocks else sweep

    def step() -> None:
        swept[(parts, programs)](
            x, y, weight, bias, sums, m, n, o, *laid_out[:3], maxnreg=laid_out.most_registers
        )
        finish[((n + 1) * o,)](
            weight, bias, sums, held_rate, programs, n * o, PARTS=PARTS, num_warps=1
        )

    return step


@lru_cache(maxsize=1024)
def compiled_gradient(
    device: torch.device, dtype: torch.dtype, n: int, o: int
) -> tuple[Any, Any, Layout]:
    """Return `sweep` and `finish` for the gradient, compiled once, and how the sweep is laid out.

    To call what is compiled takes Triton less time than to look it up. Under its interpreter, which
    compiles nothing, they are returned as they are.
    """
    held, laid_out = sums_dtype(dtype), _layout("gradient", n, o, dtype)
    swept = sweep.warmup(
        dtype, dtype, None, None, held, 1, n, o, *laid_out[:3],
        maxnreg=laid_out.most_registers, grid=(1,),
    )  # fmt: skip
    finished = finish.warmup(
        dtype, dtype, held, None, 1, 1, PARTS=PARTS, num_warps=1, grid=(1,)
    )  # fmt: skip
    return swept or sweep, finished or finish, laid_out


def gradient(x: Tensor, delta: Tensor, processors: int) -> Gradient:
    """Return XᵀΔ and 1ᵀΔ. Shapes: x (m, n), delta (m, o); on one device, the current one.

    What does not lie as it is read is copied first.

    Args:
        x: Inputs X.
        delta: Δ.
        processors: Multiprocessors of the device.
    """
    x, delta = _aligned(x), _aligned(delta)
    (m, n), o = x.shape, delta.shape[1]
    swept, finished, laid_out = compiled_gradient(x.device, x.dtype, n, o)
    parts, programs = launch_grid(laid_out, m, o, processors)
    found = Gradient(x.new_empty(n, o), x.new_empty(o))
    sums = torch.empty(programs * (n + 1) * o, dtype=sums_dtype(x.dtype), device=x.device)
    swept[(parts, programs, 1)](x, delta, None, None, sums, m, n, o, *laid_out[:3])
    finished[((n + 1) * o, 1, 1)](*found, sums, None, programs, n * o, PARTS)
    return found


def _aligned(value: Tensor) -> Tensor:
    """Return a value contiguous, and at an address that the widest loads take."""
    value = value.contiguous()
    return value.clone() if value.data_ptr() % VECTOR_BYTES else value
