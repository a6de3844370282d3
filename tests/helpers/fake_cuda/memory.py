"""The memory of the fake device: what torch's profiler sees of the host's allocator."""

from typing import Any

from torch.profiler import ProfilerActivity, profile

from .context import require_context
from .graphs import REPLAY


class Memory:
    """What torch's allocator has given, in bytes, while a trace is on."""

    def __init__(self) -> None:
        self.held = self.peak = 0
        self.trace: Any = None

    def reset(self) -> None:
        """Let the peak start again from what is held, and count from here on."""
        self._end()
        self.peak = self.held
        self.trace = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self.trace.__enter__()

    def current(self) -> int:
        """Return what is held; the peak goes on."""
        if self.trace is not None:
            peak = self.stats()["requested_bytes.all.peak"]
            self.reset()
            self.peak = peak
        return self.held

    def stats(self) -> dict[str, int]:
        """Return what is held and was held at most, by torch's names; ends the count."""
        require_context()
        self._end()
        kinds = "requested_bytes", "allocated_bytes", "active_bytes", "reserved_bytes"
        both = {"current": self.held, "peak": self.peak}
        return {f"{kind}.all.{name}": size for kind in kinds for name, size in both.items()}

    def _end(self) -> None:
        if self.trace is None:
            return
        trace, self.trace = self.trace, None
        trace.__exit__(None, None, None)
        replayed_until = 0
        events = trace.profiler.kineto_results.events()
        for event in sorted(events, key=lambda event: event.start_ns()):
            if event.name() == REPLAY:
                replayed_until = event.start_ns() + event.duration_ns()
            elif event.name() == "[memory]" and event.start_ns() > replayed_until:
                self.held += event.nbytes()
                self.peak = max(self.peak, self.held)
