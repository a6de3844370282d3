"""What `mlr` asks torch.cuda for, on the CPU: devices, streams, events, copies, graphs.

Graphs are those of `fake_cuda`: on memory that was freed they lose the context, of this test alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from fake_cuda.context import STATE
from fake_cuda.graphs import CUDAGraph, graph
from torch import Tensor


class Event:
    """A point in a stream's work."""

    def __init__(self, log: list[tuple[Any, ...]], number: int) -> None:
        self.log, self.number = log, number

    def synchronize(self) -> None:
        """Note that the host waits."""
        self.log.append(("synchronize", self.number))


class Stream:
    """A stream of a device, with a name to know it by."""

    def __init__(self, cuda: RecordedCuda, device: int, name: str) -> None:
        self.cuda, self.device, self.name = cuda, device, name

    def wait_stream(self, other: Stream) -> None:
        """Note that work to come waits for that of another stream."""
        self.cuda.log.append(("wait", self.name, other.name))

    def record_event(self) -> Event:
        """Note an event, and return it."""
        self.cuda.events += 1
        self.cuda.log.append(("record", self.name, self.cuda.events))
        return Event(self.cuda.log, self.cuda.events)


class RecordedCuda:
    """Stands in for torch.cuda, and keeps what it was asked for in `log`.

    Attributes:
        device: The index of the current device.
        made: The streams that were made, in order.
        captures: Of each capture the current device, the stream and the error mode.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.device, self.events = 0, 0
        self.made: list[Stream] = []
        self.captures: list[tuple[int, Stream, str]] = []
        self.current: dict[int, Stream] = {}
        for name, value in {
            "Stream": self._stream,
            "stream": self._on_stream,
            "current_stream": self._current_stream,
            "current_device": lambda: self.device,
            "CUDAGraph": CUDAGraph,
            "graph": self._capture,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch.accelerator, "device_index", self._on_device)
        monkeypatch.setattr(STATE, "lost", False)

    def record_copies(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note copies too: what goes to a GPU stays on the CPU, in other memory."""
        to, pinned = Tensor.to, set[int]()

        def pin_memory(value: Tensor) -> Tensor:
            pinned.add(id(copy := value.clone()))
            return copy

        def move(value: Tensor, *where: Any, **how: Any) -> Tensor:
            if not any(isinstance(one, torch.device) and one.type == "cuda" for one in where):
                return to(value, *where, **how)
            waited = not (how.get("non_blocking") and id(value) in pinned)
            self.log.append(("waited copy" if waited else "copy", self._current_stream().name))
            return value.clone()

        def record_stream(value: Tensor, stream: Stream) -> None:
            self.log.append(("used", stream.name))

        monkeypatch.setattr(Tensor, "to", move)
        monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
        monkeypatch.setattr(Tensor, "record_stream", record_stream)

    def _index(self, device: torch.device | int | None) -> int:
        index = device.index if isinstance(device, torch.device) else device
        return self.device if index is None else index

    def _stream(self, device: torch.device | int | None = None) -> Stream:
        index = self._index(device)
        self.made.append(Stream(self, index, f"side {len(self.made)} of {index}"))
        return self.made[-1]

    def _current_stream(self, device: torch.device | int | None = None) -> Stream:
        index = self._index(device)
        return self.current.setdefault(index, Stream(self, index, f"default of {index}"))

    @contextmanager
    def _on_device(self, index: int | None) -> Iterator[None]:
        before, self.device = self.device, self._index(index)
        yield
        self.device = before

    @contextmanager
    def _on_stream(self, stream: Stream) -> Iterator[None]:
        with self._on_device(stream.device):
            before = self._current_stream()
            self.current[stream.device] = stream
            yield
            self.current[stream.device] = before

    @contextmanager
    def _capture(
        self, captured: CUDAGraph, stream: Stream | None = None, capture_error_mode: str = "global"
    ) -> Iterator[None]:
        stream = stream or self._stream()
        self.captures.append((self.device, stream, capture_error_mode))
        with self._on_stream(stream), graph(captured, capture_error_mode=capture_error_mode):
            yield
