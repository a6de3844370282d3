"""How quiet the machine is while a benchmark is timed: what others take of it, and its clocks."""

import os
from typing import Any, Self

import psutil

from ..machine.devices import device_of
from .timing import wall_clock

# In cores. A kernel of two threads on two cores loses as much to a tenth of a core as rounds of
# one process differ by; what the suite's own parent takes to follow a run is a tenth of that.
MAX_STEAL = 0.1
MAX_OTHER_CPU = 0.15
TICKS_S = 0.02  # the system's counters tick in hundredths of a second
BUSY = ("user", "nice", "system", "irq", "softirq")


class LoadSnapshot:
    """The counters of the system, of this process and of a device at one moment."""

    def __init__(self, device: str) -> None:
        times = psutil.cpu_times()
        self.at = wall_clock()
        self.steal: float | None = getattr(times, "steal", None)
        self.busy = sum(getattr(times, name, 0.0) for name in BUSY)
        self.own = sum(os.times()[:4])  # user and system, its children's too
        self.device = device_of(device).load()

    def delta(self, before: Self) -> dict[str, Any]:
        """Return what was seen since an earlier snapshot, as columns of a sample.

        `steal`, `other_cpu` and `load` are in cores: what the hypervisor gave to somebody else
        (None where it does not say), what other processes took, and the one-minute load average.
        `contended` is whether something else used the machine, or the accelerator was throttled.
        """
        wall_s = max(self.at - before.at, 1e-9)
        steal = None
        if self.steal is not None and before.steal is not None:
            steal = max(0.0, self.steal - before.steal) / wall_s
        others_s = self.busy - before.busy - (self.own - before.own) - TICKS_S
        other_cpu = max(0.0, others_s) / wall_s
        throttled = any(one.device.get("gpu_throttled") for one in (before, self))
        frequency = psutil.cpu_freq()
        return {
            "steal": steal,
            "other_cpu": other_cpu,
            "load": psutil.getloadavg()[0],
            "cpu_mhz": (frequency and frequency.current) or None,
            **self.device,
            "gpu_throttled": throttled if self.device else None,
            "contended": (steal or 0.0) > MAX_STEAL or other_cpu > MAX_OTHER_CPU or throttled,
        }
