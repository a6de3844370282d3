"""How the one-pass kernels on CUDA share rows, features and outputs; needs no Triton."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..case import Case
from ..registry import needs_triton

DTYPES = ("float32", "float64", "bfloat16")
THREADS = 128  # of a program
REGISTERS = 160  # of the 255 of a thread: for what grows with n and o
OTHER_REGISTERS = 22  # of a thread: addresses, and what is under way
PROCESSOR_REGISTERS = 65_536  # given out to threads by eights
MOST_PROGRAMS = 8  # of a multiprocessor: enough to hide the latency of memory
VECTOR_BYTES = 16  # that a thread loads at once, at most
LANES = (1, 2, 4, 8, 16, 32)  # threads of a warp that share a row
# Of a float64 W whose products are taken of blocks of rows: n·o at least, and at most when padded.
LEAST_BLOCK, MOST_BLOCK = 512, 1_024
BLOCK_ROWS = 64
BLOCK_PROGRAMS = 2  # of a multiprocessor, whose registers they take


class Layout(NamedTuple):
    """What one program of a sweep takes on.

    Attributes:
        outputs: Outputs whose sums it holds.
        width: Neighbouring features that are loaded at once, a power of two.
        rows: Rows of a block.
        programs: Programs that a multiprocessor runs at once.
        blocks: Whether products of matrices are taken of blocks of rows with all features; else
            each thread sums its own rows.
    """

    outputs: int
    width: int
    rows: int
    programs: int
    blocks: bool = False

    @property
    def most_registers(self) -> int:
        """The registers that a thread may take for so many programs to run at once."""
        return min(255, PROCESSOR_REGISTERS // (THREADS * self.programs) // 8 * 8)


def layout(operation: str, n: int, o: int, itemsize: int) -> Layout | None:
    """Return how a sweep is laid out, or None where n and o are too large for it.

    A thread holds the sums of its features of a row and of the program's outputs, and in a step W
    as well, in registers. Programs that share the rows read X more than once, from the second-level
    cache but for the first: the fewest threads share a row with which no more than twice the bytes
    of X and Y are read. In a step the threads of a row also add up its prediction between them.
    Where W is large, that costs several times as much as a product of matrices in float64, which
    tensor cores take without rounding.
    """
    inner, outer = _padded(n), _padded(o)
    large = n * o >= LEAST_BLOCK and inner * outer <= MOST_BLOCK
    if operation == "step" and itemsize == 8 and large and multiplies_blocks():
        return Layout(outer, inner, BLOCK_ROWS, BLOCK_PROGRAMS, blocks=True)
    size = 2 if itemsize == 8 else 1  # registers of a number
    held = 2 if operation == "step" else 1
    vector = min(VECTOR_BYTES // itemsize, n & -n)
    for lanes in LANES:
        width = lanes * vector
        features = -(-n // width) * vector  # of a thread
        most = (REGISTERS // size - features) // (held * features + 3)
        if most < 1:
            continue
        parts = -(-o // most)
        if parts * n + o <= 2 * (n + o):
            outputs = -(-o // parts)
            used = size * (features + (held * features + 3) * outputs) + OTHER_REGISTERS
            programs = min(MOST_PROGRAMS, PROCESSOR_REGISTERS // (THREADS * used))
            return Layout(outputs, width, THREADS // lanes, programs)
    return None


def multiplies_blocks() -> bool:
    """Say whether Triton takes products in float64 for the current device, or for none.

    Triton 3.7 fails to compile them for compute capability 10, Blackwell's.
    """
    return not torch.cuda.is_available() or torch.cuda.get_device_capability() < (10, 0)


def _padded(size: int) -> int:
    """Return the power of two that a side of a block is padded to; Triton takes 16 or more."""
    return max(16, 1 << (size - 1).bit_length())


def launch_grid(laid_out: Layout, m: int, o: int, processors: int) -> tuple[int, int]:
    """Return how many programs share the outputs, and how many the rows."""
    parts = -(-o // laid_out.outputs)
    most = max(1, laid_out.programs * processors // parts)
    return parts, min(-(-m // laid_out.rows), most)


def processors(device: torch.device | None = None) -> int:
    """Return the multiprocessors of a CUDA device, by default the current one; 1 without any."""
    if not torch.cuda.is_available():
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def workspace(operation: str, m: int, n: int, o: int, itemsize: int) -> int:
    """Return the bytes of the sums of all programs on the current device, and of a step's rate."""
    laid_out = layout(operation, n, o, itemsize)
    if laid_out is None:
        return 0
    _, programs = launch_grid(laid_out, m, o, processors())
    sums = programs * (n + 1) * o * (8 if itemsize == 8 else 4)
    return sums + (8 if operation == "step" else 0)


def unsupported(case: Case) -> str | None:
    """Say why a case cannot be swept: what Triton needs is missing, or n and o are too large."""
    if missing := needs_triton(case):
        return missing
    _, n, o = case.sizes
    if layout(case.operation, n, o, case.itemsize) is None:
        return (
            "registers must hold the sums of so many outputs that X and Y are read at most twice; "
            f"got {n:,} features and {o:,} outputs in {case.dtype}"
        )
    return None
