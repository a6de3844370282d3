"""What tells one set of rows from another: a hash of some of them, cheap however many there are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

MOST_ROWS = 1024  # that are looked at, of however many; a set that is smaller is looked at whole
MOST_BYTES = 2**26  # of them together; where rows are so long there are fewer, two at least
BITS = 64


def digest(*values: Tensor, place: int = 0) -> str:
    """Return a hash of some tensors, on whatever device: of dtypes, shapes, bits, and a place."""
    found = hashlib.sha256(f"{place} ".encode())
    for value in values:
        found.update(f"{value.dtype} {tuple(value.shape)} ".encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[: BITS // 4]


def spread(rows: int, row_bytes: int) -> list[int]:
    """Return the rows to look at: evenly spread, the first and the last among them.

    Args:
        rows: How many there are.
        row_bytes: Bytes of one, of X and Y together.

    >>> spread(5, 8), spread(10, 2**24)
    ([0, 1, 2, 3, 4], [0, 3, 6, 9])
    """
    count = min(rows, MOST_ROWS, max(2, MOST_BYTES // row_bytes))
    return [place * (rows - 1) // max(1, count - 1) for place in range(count)]


def combine_digests(digests: Iterable[str]) -> str:
    """Return one digest of several, whatever their order: their sum.

    Each worker combines those of its own rows, and the digests of all workers are combined again:
    the result is that of all rows, however many workers there are.
    """
    total = sum(int(one, 16) for one in digests) % 2**BITS
    return f"{total:0{BITS // 4}x}"
