"""Rows out of files larger than memory, one batch at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .checks import as_device, as_dtype, check_count


class Rows(NamedTuple):
    """Where the rows of a matrix lie in a file."""

    path: Path
    offset: int
    rows: int
    columns: int
    dtype: np.dtype[np.floating]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.columns * self.dtype.itemsize


class Upload:
    """Bring rows from files or a generator to a device, converted to a dtype.

    For a GPU they are copied from page-locked memory, by a stream of their own: the caller may go
    on to read the next rows, and the device computes meanwhile. Before that it waits until what was
    enqueued with the rows before the last ones is done, so that no more than two are held at once.

    Args:
        device: Where they go.
        dtype: What they are converted to, on the CPU; their own where it is None.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype | None) -> None:
        self.device, self.dtype = device, dtype
        self.enqueued: torch.cuda.Event | None = None  # all that used the rows before the last ones
        self.stream = None if device.type == "cpu" else torch.cuda.Stream(device)

    def __call__(self, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return X and Y as tensors; on the CPU in the very same memory if the dtype is theirs."""
        given = self._converted(x), self._converted(y)
        if self.stream is None:
            return given
        if self.enqueued is not None:
            self.enqueued.synchronize()
        computing = torch.cuda.current_stream(self.device)
        self.enqueued = computing.record_event()
        with torch.cuda.stream(self.stream):
            found = self._copied(given[0]), self._copied(given[1])
        computing.wait_stream(self.stream)
        for one in found:
            one.record_stream(computing)
        return found

    def _converted(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to("cpu", self.dtype)

    def _copied(self, values: Tensor) -> Tensor:
        return values.pin_memory().to(self.device, non_blocking=True)


class Batches:
    """Go through X (m, n) and Y (m, o) in two `.npy` files, so many rows at a time, in order.

    At no time is more than one batch in memory: rows are read, not mapped, since what is mapped and
    touched stays resident. A batch is overwritten by the next. On a GPU there are two: it computes
    on one while the next is read and copied. Each `iter` begins anew, so that it serves any number
    of epochs: `model.fit_batches(Batches("x.npy", "y.npy", 10_000), 16, 0.01)`.

    Args:
        x: A `.npy` file of a C-ordered floating-point matrix, or a `numpy.memmap` of one.
        y: Likewise, of as many rows.
        batch_size: Rows of a batch; the last may be short.
        device: Where the batches go; the CPU by default.
        dtype: What they are converted to; that of the files by default.

    Raises:
        ValueError: If a file is no such matrix or ends early, or the rows differ in number.
    """

    def __init__(
        self,
        x: str | Path | np.memmap,
        y: str | Path | np.memmap,
        batch_size: int,
        *,
        device: torch.device | str | None = "cpu",
        dtype: torch.dtype | str | None = None,
    ) -> None:
        """Look at both files; no row is read yet."""
        check_count("batch_size", batch_size)
        self.x, self.y = look("x", x), look("y", y)
        if self.x.rows != self.y.rows:
            raise ValueError(
                f"x and y must have as many rows as each other; got {self.x.rows} in {self.x.path} "
                f"and {self.y.rows} in {self.y.path}; drop the rows without a partner"
            )
        self.batch_size = batch_size
        self.device = as_device(device)
        self.dtype = None if dtype is None else as_dtype(dtype)

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-self.x.rows // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the batches in order.

        Raises:
            ValueError: If a file has become shorter meanwhile, or cannot be read.
        """
        buffers = [self._buffer(rows) for rows in (self.x, self.y)]
        upload = Upload(self.device, self.dtype)
        try:
            with self.x.path.open("rb", buffering=0) as x, self.y.path.open("rb", buffering=0) as y:
                for rows, file in ((self.x, x), (self.y, y)):
                    file.seek(rows.offset)
                for first in range(0, self.x.rows, self.batch_size):
                    count = min(self.batch_size, self.x.rows - first)
                    for rows, file, buffer in zip((self.x, self.y), (x, y), buffers, strict=True):
                        _read(file, rows, buffer[:count])
                    yield upload(buffers[0][:count], buffers[1][:count])
        except OSError as error:
            raise ValueError(
                f"the files of a stream must be readable; {error.filename}: {error.strerror}"
            ) from error

    def _buffer(self, rows: Rows) -> np.ndarray:
        return np.empty((min(self.batch_size, rows.rows), rows.columns), rows.dtype)


def look(name: str, source: str | Path | np.memmap) -> Rows:
    """Return where the rows of a file lie, by its header alone: nothing in it is unpickled.

    Raises:
        ValueError: If it is no `.npy` file of a C-ordered floating-point matrix.
    """
    if isinstance(source, np.memmap):
        values, path = source, Path(str(source.filename))
    else:
        path = Path(source)
        try:
            values = np.lib.format.open_memmap(path, mode="r")
        except (OSError, ValueError, EOFError) as error:
            why = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
            raise ValueError(f"{name} must be a .npy file of numbers; {path}: {why}") from error
    plain = values.ndim == 2 and values.flags.c_contiguous and values.dtype.isnative
    if not plain or values.dtype.kind != "f" or not 2 <= values.dtype.itemsize <= 8:
        raise ValueError(
            f"{name} must hold a C-ordered matrix of floating-point numbers; {path} holds "
            f"{values.dtype} of shape {values.shape}; save it with numpy.save as one"
        )
    if not math.prod(values.shape):
        raise ValueError(f"{name} must hold at least 1 row; {path} has shape {values.shape}")
    rows, columns = values.shape
    return Rows(path, _offset(values), rows, columns, values.dtype)


def _offset(values: np.memmap) -> int:
    """Return where in its file a mapping starts, or the part of one."""
    whole = values
    while isinstance(whole.base, np.memmap):
        whole = whole.base
    first, start = (one.__array_interface__["data"][0] for one in (whole, values))
    return int(whole.offset + start - first)


def read_rows(rows: Rows, first: int, last: int) -> np.ndarray:
    """Return rows `first` to `last`, the latter not included.

    Raises:
        ValueError: If the file has become shorter meanwhile, or cannot be read.
    """
    found = np.empty((last - first, rows.columns), rows.dtype)
    try:
        with rows.path.open("rb", buffering=0) as file:
            file.seek(rows.offset + first * rows.row_bytes)
            _read(file, rows, found)
    except OSError as error:
        raise ValueError(
            f"the files of a stream must be readable; {error.filename}: {error.strerror}"
        ) from error
    return found


def _read(file: FileIO, rows: Rows, into: np.ndarray) -> None:
    view = into.data.cast("B")
    while view:
        got = file.readinto(view)
        if not got:
            raise ValueError(
                f"{rows.path} must hold {rows.rows} rows of {rows.row_bytes} bytes; it ends "
                "before: was it cut short, or is it still being written?"
            )
        view = view[got:]
