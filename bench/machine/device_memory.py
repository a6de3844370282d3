"""What calls hold of memory: by torch's events and counters, and by those of a driver."""

import gc
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from ..common.garbage import gc_paused


class Allocations(NamedTuple):
    """Bytes that are still held after a call, and the most that were held at once during it."""

    held_bytes: int
    peak_bytes: int


def traced_events(call: Callable[[], Any]) -> list[Any]:
    """Call once and return torch's operators, and its allocations `[memory]`, in their order."""
    with gc_paused(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        call()
    return sorted(trace.profiler.kineto_results.events(), key=lambda event: event.start_ns())


def count_allocations(call: Callable[[], Any], module: ModuleType) -> Allocations:
    """Call once and return what torch's allocator was asked for meanwhile, exact to the byte.

    A captured graph allocates nothing when it is replayed: it works in a pool of its own. So after
    a call that captures one, the most that was asked for counts as held. `module` is torch's of the
    type of device.
    """
    torch.accelerator.synchronize()
    gc.collect()
    before, pools = _asked_bytes("current"), _graph_pools(module)
    torch.accelerator.reset_peak_memory_stats()
    call()
    torch.accelerator.synchronize()
    held, peak = (_asked_bytes(when) - before for when in ("current", "peak"))
    return Allocations(peak if _graph_pools(module) - pools else held, peak)


def _asked_bytes(when: str) -> int:
    """Return the bytes that the allocator was asked for; its blocks' where it does not say."""
    stats = torch.accelerator.memory_stats()
    names = (f"requested_bytes.all.{when}", f"allocated_bytes.all.{when}")
    return int(next((stats[name] for name in names if stats.get(name)), 0))


def _graph_pools(module: ModuleType) -> set[Any]:
    """Return the segments of memory that belong to captured graphs, each with its pool."""
    segments: list[dict[str, Any]] = getattr(module, "memory_snapshot", list)()
    pools = ((one["segment_pool_id"], one["address"]) for one in segments)
    return {one for one in pools if one[0] != (0, 0)}


def growth_outside_torch(call: Callable[[], Any]) -> int:
    """Call twice and return the bytes beyond torch's that a call still holds, or 0: the less.

    What other processes allocate in between is unlikely to do so twice.
    """
    grown = []
    for _ in range(2):
        before = _bytes_outside_torch()
        call()
        grown.append(_bytes_outside_torch() - before)
    return max(0, min(grown))


def _bytes_outside_torch() -> int:
    torch.accelerator.synchronize()
    free, total = torch.accelerator.get_memory_info()
    return total - free - torch.accelerator.memory_reserved()
