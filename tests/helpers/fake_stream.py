"""A stream of work that runs behind the host, in time that passes only as its parts say.

The host launches, the device works off what was launched in order, and each has a time of its own.
"""

from collections import deque
from types import ModuleType
from typing import Any

import pytest
import torch
from fake_clock import FakeClock

from bench.machine import device_time, devices

LAUNCH_S = 5e-6  # that a launch takes the host
RECORD_S = 1e-6  # that an event takes the host
RESOLUTION_S = 0.5e-6  # of events
QUEUE = 1_000  # launches that a stream takes before the host has to wait
CYCLES_PER_S = 1.755e9


class FakeStream:
    """A device's stream, what its host has launched, and how long the host takes for it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.free_at = 0.0  # when the device will have done all that was launched
        self.wait_s = 0.0  # that waiting costs the host beyond the device's work
        self.ends: deque[float] = deque(maxlen=QUEUE)

    def launch(self, seconds: float, host_s: float = LAUNCH_S) -> None:
        self.clock.now += host_s
        if len(self.ends) == QUEUE:
            self.clock.now = max(self.clock.now, self.ends[0])
        self.free_at = max(self.free_at, self.clock.now) + seconds
        self.ends.append(self.free_at)

    def sleep(self, cycles: int) -> None:
        self.launch(cycles / CYCLES_PER_S)

    def synchronize(self) -> None:
        self.clock.now = max(self.clock.now, self.free_at) + self.wait_s


class FakeEvent:
    """An event of a stream."""

    stream: FakeStream

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.stream.clock.now += RECORD_S
        self.at = max(self.stream.free_at, self.stream.clock.now)

    def query(self) -> bool:
        return self.at <= self.stream.clock.now

    def elapsed_time(self, end: "FakeEvent") -> float:
        ticks = end.at // RESOLUTION_S - self.at // RESOLUTION_S
        return ticks * RESOLUTION_S * 1_000


class FakeCache:
    """A device's last cache: what was in a call before is in it until other data is read."""

    def __init__(self, stream: FakeStream) -> None:
        self.stream, self.held = stream, set[Any]()

    def call(self, inputs: Any, hot_s: float, cold_s: float) -> None:
        """Launch work on some inputs, named by anything."""
        self.stream.launch(hot_s if inputs in self.held else cold_s)
        self.held.add(inputs)

    def install(self, monkeypatch: pytest.MonkeyPatch, cache_bytes: int = 2**20) -> None:
        """Let what evicts from the cache of an accelerator evict from this one."""
        zeros = torch.zeros

        def fake_zeros(*sizes: Any, **kinds: Any) -> Any:
            return self if sizes == (3 * cache_bytes // 4,) else zeros(*sizes, **kinds)

        monkeypatch.setattr(torch, "zeros", fake_zeros)
        monkeypatch.setattr(devices.Accelerator, "cache_bytes", lambda _: [cache_bytes])

    def sum(self) -> None:
        """Read other data, as if this were the tensor that is larger than the cache."""
        self.stream.launch(60e-6)
        self.held.clear()


def install_stream(monkeypatch: pytest.MonkeyPatch, module: ModuleType = torch.cuda) -> FakeStream:
    """Put a stream and its host's clock in the place of a device's, by the module of its type."""
    stream = FakeStream()
    for timed in (devices, device_time):
        monkeypatch.setattr(timed, "perf_counter", stream.clock)
    monkeypatch.setattr(torch.accelerator, "synchronize", stream.synchronize)
    event = type("Event", (FakeEvent,), {"stream": stream})
    monkeypatch.setattr(module, "Event", event)
    monkeypatch.setattr(module, "_sleep", stream.sleep, raising=False)
    return stream
