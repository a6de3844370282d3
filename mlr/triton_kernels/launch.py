"""The launch grid of the one-pass step on CUDA, and the memory of its sums; needs no Triton."""

from __future__ import annotations

MIN_SIZE = 16  # rows, features and outputs of a product of Triton, at least
PROGRAMS_PER_PROCESSOR = 2  # enough to hide the latency of memory
MAX_ROWS, MIN_ROWS = 128, 16  # of a block
BLOCK_NUMBERS = 8_192  # of a block of X: what registers hold beside W and the sums


def padded(size: int) -> int:
    """Return the power of two that a size is padded to."""
    return max(MIN_SIZE, 1 << (size - 1).bit_length())


def launch_grid(m: int, n: int, processors: int) -> tuple[int, int]:
    """Return the rows of a block and the number of programs."""
    rows = min(MAX_ROWS, max(MIN_ROWS, BLOCK_NUMBERS // padded(n)))
    return rows, max(1, min(-(-m // rows), PROGRAMS_PER_PROCESSOR * processors))


def sums_bytes(m: int, n: int, o: int, itemsize: int, processors: int) -> int:
    """Return the bytes that the sums of all programs take."""
    _, programs = launch_grid(m, n, processors)
    return programs * (padded(n) + 1) * padded(o) * (8 if itemsize == 8 else 4) + 8
