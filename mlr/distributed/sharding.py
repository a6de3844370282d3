"""Which rows each worker takes at each step, and where it has them from.

A step takes `batch_size` rows of all workers together, in order, the last step of an epoch fewer.
From files and from a seed every worker takes an equal part of the very rows that one worker alone
would take, so that the training is the same on any number of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checks import as_dtype, check_count, check_matrix, check_number, check_rows, check_seed
from ..streaming import Upload, look, read_rows
from .fingerprint import combine_digests, digest, spread
from .workers import Workers

BLOCK_ROWS = 4096  # of data made from a seed, drawn at once

Piece = tuple[Tensor, Tensor]


class ShardedRows(ABC):
    """The rows of this worker, step by step.

    Attributes:
        rows: How many rows all workers have together.
        features: Columns of X, n.
        outputs: Columns of Y, o.
        dtype: Of both.
        batch_size: Rows of a step, over all workers.
        piece_rows: Most rows that are held at once, on a GPU those read ahead not counted; a step
            takes several pieces where it has more.
    """

    def __init__(
        self, workers: Workers, rows: int, features: int, outputs: int, dtype: torch.dtype,
        batch_size: int | None, piece_rows: int | None,
    ) -> None:  # fmt: skip
        """Take what is the same for every source."""
        self.workers, self.rows, self.features, self.outputs = workers, rows, features, outputs
        self.dtype = dtype
        self.batch_size = rows if batch_size is None else batch_size
        self.piece_rows = self.batch_size if piece_rows is None else piece_rows
        check_count("batch_size", self.batch_size)
        check_count("piece_rows", self.piece_rows)
        self.upload = Upload(workers.device, dtype)
        self._ahead: tuple[tuple[int, int], Piece] | None = None

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        return -(-self.rows // self.batch_size)

    def total(self, step: int) -> int:
        """Return the rows of a step over all workers."""
        return min(self.rows, (step + 1) * self.batch_size) - step * self.batch_size

    def pieces(self, step: int) -> Iterator[Piece]:
        """Give X and Y of this worker at a step, piece by piece.

        Raises:
            ValueError: For rows that cannot be read, or are not finite.
        """
        first, last = self._own(step)
        for start in range(first, last, self.piece_rows):
            x, y = self._piece(start, min(last, start + self.piece_rows))
            for name, value in (("x", x), ("y", y)):
                if not bool(torch.isfinite(value).all()):
                    raise ValueError(
                        f"{name} must be finite; rank {self.workers.rank} has NaN or infinity in "
                        f"its rows {start} to {start + len(value) - 1}; remove those rows"
                    )
            yield x, y

    def read_ahead(self, step: int) -> None:
        """Read the first piece of a step for a GPU, which still computes on what it was given.

        What cannot be read is told when the step is taken.
        """
        first, last = self._own(step)
        if self.workers.device.type == "cpu" or first == last:
            return
        last = min(last, first + self.piece_rows)
        with suppress(ValueError):
            self._ahead = (first, last), self._read(first, last)

    def _piece(self, first: int, last: int) -> Piece:
        """Return X and Y of some rows, as they were read ahead if it was those."""
        ahead, self._ahead = self._ahead, None
        return ahead[1] if ahead and ahead[0] == (first, last) else self._read(first, last)

    def _own(self, step: int) -> tuple[int, int]:
        """Return the first row that this worker takes at a step, and the one behind its last."""
        start, total = step * self.batch_size, self.total(step)
        rank, world = self.workers.rank, self.workers.world
        return start + rank * total // world, start + (rank + 1) * total // world

    def fingerprint(self) -> str:
        """Return what tells the rows of all workers from others of the same sizes and dtype.

        A hash of evenly spread rows, each looked at by the worker that takes it: all rows of few,
        and of many so few that it costs next to nothing. It is the same on any number of workers,
        which all must call it.

        Raises:
            ValueError: For rows that cannot be read.
            WorkerError: Another worker has failed.
        """
        row_bytes = (self.features + self.outputs) * self.dtype.itemsize
        mine = []
        for row in spread(self.rows, row_bytes):
            if (at := self._place(row)) is not None:
                mine.append(digest(*self._read(at, at + 1), place=row))
        return combine_digests(map(str, self.workers.all_gather_object(combine_digests(mine))))

    def _place(self, row: int) -> int | None:
        """Return where this worker has a row of all; None where another worker takes it."""
        first, last = self._own(row // self.batch_size)
        return row if first <= row < last else None

    @abstractmethod
    def _read(self, first: int, last: int) -> Piece:
        """Return X and Y of some rows, on the device of the workers."""


class FileRows(ShardedRows):
    """Rows of two `.npy` files that every worker can read; each reads its own, and no other.

    Args:
        workers: As of `init`.
        x: A `.npy` file of a C-ordered floating-point matrix X (m, n).
        y: Likewise Y (m, o).
        batch_size: Rows of a step over all workers; all rows by default.
        piece_rows: Most rows in memory at once; those of a step by default.
        dtype: What rows are converted to; that of the files by default.

    Raises:
        ValueError: If a file is no such matrix, or the rows differ in number.
    """

    def __init__(
        self, workers: Workers, x: str | Path, y: str | Path, batch_size: int | None = None, *,
        piece_rows: int | None = None, dtype: torch.dtype | str | None = None,
    ) -> None:  # fmt: skip
        """Look at both files; no row is read yet."""
        self.x, self.y = look("x", x), look("y", y)
        if self.x.rows != self.y.rows:
            raise ValueError(
                f"x and y must have as many rows as each other; got {self.x.rows} in {self.x.path} "
                f"and {self.y.rows} in {self.y.path}; drop the rows without a partner"
            )
        kind = as_dtype(str(self.x.dtype) if dtype is None else dtype)
        super().__init__(
            workers, self.x.rows, self.x.columns, self.y.columns, kind, batch_size, piece_rows
        )

    def _read(self, first: int, last: int) -> Piece:
        return self.upload(read_rows(self.x, first, last), read_rows(self.y, first, last))


class SyntheticRows(ShardedRows):
    """Rows of a linear problem made from a seed: any row can be made without those before it.

    Y = XC + 1cᵀ + noise·ε with X, ε, C and c standard normal. Rows come in blocks, each from a
    generator of its own seeded by the seed and the block's number (NumPy's `SeedSequence`), so that
    a worker makes what it takes and no other row.

    Args:
        workers: As of `init`.
        rows: How many in all, m.
        features: n.
        outputs: o.
        batch_size: As of `FileRows`.
        piece_rows: As of `FileRows`.
        noise: In units of y.
        seed: Of everything.
        dtype: Drawn in float64, then converted.

    Raises:
        ValueError: For sizes, a seed or a dtype that make no data.
    """

    def __init__(
        self, workers: Workers, rows: int, features: int, outputs: int,
        batch_size: int | None = None, *, piece_rows: int | None = None,
        noise: float | int = 1.0, seed: int = 0, dtype: torch.dtype | str = torch.float64,
    ) -> None:  # fmt: skip
        """Draw C and c; no row is made yet."""
        for name, value in (("rows", rows), ("features", features), ("outputs", outputs)):
            check_count(name, value)
        check_seed(seed)
        check_number("noise", noise, least=0)
        super().__init__(workers, rows, features, outputs, as_dtype(dtype), batch_size, piece_rows)
        self.noise, self.seed = noise, seed
        first = np.random.default_rng([seed, 0])
        self.truth = first.standard_normal((features, outputs)), first.standard_normal(outputs)
        self._block = lru_cache(maxsize=2)(self._made)

    def fingerprint(self) -> str:
        """Return what the rows are made from: as good as a hash of them, and no row is made."""
        return f"made from seed {self.seed} with noise {float(self.noise)}"

    def _read(self, first: int, last: int) -> Piece:
        blocks = range(first // BLOCK_ROWS, (last - 1) // BLOCK_ROWS + 1)
        made = [self._block(number) for number in blocks]
        x, y = (np.concatenate([one[side] for one in made]) for side in (0, 1))
        start = blocks.start * BLOCK_ROWS
        some = slice(first - start, last - start)
        return self.upload(x[some], y[some])

    def _made(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        draw = np.random.default_rng([self.seed, 1 + number])
        x = draw.standard_normal((BLOCK_ROWS, self.features))
        weight, bias = self.truth
        noise = draw.standard_normal((BLOCK_ROWS, self.outputs))
        return x, x @ weight + bias + self.noise * noise


class LocalRows(ShardedRows):
    """Rows that each worker has already, as many or few as it has.

    At each step a worker takes as large a part of its rows as of all of them: over an epoch it
    takes each once, and steps end together. All workers must come here, since they tell each other
    how many rows they have.

    Args:
        workers: As of `init`.
        x: X of this worker (rows, n).
        y: Y of this worker (rows, o).
        batch_size: As of `FileRows`.
        piece_rows: As of `FileRows`.

    Raises:
        ValueError: For tensors that are no such data.
        WorkerError: Workers differ in features, outputs or dtype.
    """

    def __init__(
        self, workers: Workers, x: Tensor, y: Tensor, batch_size: int | None = None, *,
        piece_rows: int | None = None,
    ) -> None:  # fmt: skip
        """Take the rows, and hear of those of the others."""
        for name, value in (("x", x), ("y", y)):
            if not isinstance(value, Tensor) or value.ndim != 2:
                raise ValueError(f"{name} must be a tensor of shape (rows, columns)")
        like = x[:0].to(workers.device)
        for name, value in (("x", x), ("y", y)):
            if len(value):
                check_matrix(name, value, value.shape[1], like)
        check_rows("x", x, "y", y)
        workers.assert_equal(features=x.shape[1], outputs=y.shape[1], dtype=x.dtype)
        self.counts = [int(str(count)) for count in workers.all_gather_object(len(x))]
        self.x, self.y = x.detach(), y.detach()
        check_count("rows of all workers", sum(self.counts))
        super().__init__(
            workers, sum(self.counts), x.shape[1], y.shape[1], x.dtype, batch_size, piece_rows
        )

    def fingerprint(self) -> str:
        """Return a hash of the rows, and how they are shared where that says what a step takes.

        The rows of all workers in the order of their ranks count as one set, which is the same
        whoever has them. A step of fewer than all takes some of each worker's.

        Raises:
            WorkerError: Another worker has failed.
        """
        found = super().fingerprint()
        if len(self) == 1:
            return found
        return f"{found} shared as {'+'.join(str(count) for count in self.counts if count)}"

    def _place(self, row: int) -> int | None:
        rank = self.workers.rank
        at = row - sum(self.counts[:rank])
        return at if 0 <= at < self.counts[rank] else None

    def total(self, step: int) -> int:
        """Return the rows of a step over all workers."""
        ends = (self._taken(step, count) for count in self.counts)
        return sum(last - first for first, last in ends)

    def _own(self, step: int) -> tuple[int, int]:
        return self._taken(step, self.counts[self.workers.rank])

    def _taken(self, step: int, count: int) -> tuple[int, int]:
        first, last = step * self.batch_size, min(self.rows, (step + 1) * self.batch_size)
        return count * first // self.rows, count * last // self.rows

    def _read(self, first: int, last: int) -> Piece:
        return self.x[first:last], self.y[first:last]
