"""How quiet the machine is while a benchmark is timed: what others take of it, and its clocks."""

from __future__ import annotations

import os
from typing import Any

import psutil

from ..machine.devices import device_of
from .timing import wall_clock

# In cores. A kernel of two threads on two cores loses as much to a tenth of a core as rounds of
# one process differ by; what the suite's own parent takes to follow a run is a tenth of that.
MAX_STEAL = 0.1
MAX_OTHER_CPU = 0.15
TICKS_S = 0.02  # the system's counters tick in hundredths of a second


def is_contended(steal: float | None, other_cpu: float, throttled: bool | None) -> bool:
    """Say whether something else used the machine, or the accelerator was throttled."""
    stolen = steal is not None and steal > MAX_STEAL
    return stolen or other_cpu > MAX_OTHER_CPU or bool(throttled)


class LoadSnapshot:
    """The counters of the system, of this process and of a device at one moment."""

    def __init__(self, device: str) -> None:
        times, mine = psutil.cpu_times(), os.times()
        self.at = wall_clock()
        self.steal: float | None = getattr(times, "steal", None)
        self.busy = sum(
            getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq")
        )
        self.own = mine.user + mine.system + mine.children_user + mine.children_system
        frequency = psutil.cpu_freq()
        self.cpu_mhz = frequency.current if frequency and frequency.current else None
        self.device = device_of(device).load()

    def delta(self, before: LoadSnapshot) -> dict[str, Any]:
        """Return what was seen since an earlier snapshot, as columns of a sample.

        `steal`, `others` and `load` are in cores: what the hypervisor gave to somebody else (None
        where it does not say), what other processes took, and the one-minute load average.
        """
        wall = max(self.at - before.at, 1e-9)
        steal = None
        if self.steal is not None and before.steal is not None:
            steal = max(0.0, self.steal - before.steal) / wall
        own = self.own - before.own
        others = max(0.0, self.busy - before.busy - own - TICKS_S) / wall
        throttled = self.device.throttled
        if throttled is not None:
            throttled = bool(throttled or before.device.throttled)
        return {
            "steal": steal,
            "other_cpu": others,
            "load": psutil.getloadavg()[0],
            "cpu_mhz": self.cpu_mhz,
            "gpu_mhz": self.device.mhz,
            "gpu_throttled": throttled,
            "contended": is_contended(steal, others, throttled),
        }
