"""How quiet the machine is while a case is measured: what others take of it, and its clocks."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import psutil

from .timing import wall_clock

# In cores. A kernel of two threads on two cores loses as much to a tenth of a core as rounds of
# one process differ by; what the suite's own parent takes to follow a run is a tenth of that.
MOST_STEAL = 0.1
MOST_OTHERS = 0.15


@dataclass(frozen=True, slots=True)
class Noise:
    """What was seen between two looks.

    Attributes:
        steal: Cores that the hypervisor gave to somebody else; None where it does not say.
        others: Cores that other processes took.
        load: The one-minute load average, in cores.
        cpu_mhz: Clock of the processor; None where it does not say.
        gpu_mhz: Clock of the GPU's multiprocessors, by NVML.
        gpu_throttled: Whether the GPU was throttled at either look.
    """

    steal: float | None
    others: float
    load: float
    cpu_mhz: float | None
    gpu_mhz: float | None
    gpu_throttled: bool | None

    @property
    def contended(self) -> bool:
        """Whether something else used the machine, or the GPU was throttled."""
        stolen = self.steal is not None and self.steal > MOST_STEAL
        return stolen or self.others > MOST_OTHERS or bool(self.gpu_throttled)

    def columns(self) -> dict[str, Any]:
        """Return the fields as plain JSON, with the verdict."""
        return {**asdict(self), "contended": self.contended}


class Look:
    """The counters at one moment; `since` an earlier one they are noise."""

    def __init__(self, gpu: bool) -> None:
        times = psutil.cpu_times()
        self.at = wall_clock()
        self.steal: float | None = getattr(times, "steal", None)
        self.busy = sum(
            getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq")
        )
        mine = os.times()
        self.own = mine.user + mine.system + mine.children_user + mine.children_system
        frequency = psutil.cpu_freq()
        self.cpu_mhz = frequency.current if frequency and frequency.current else None
        self.gpu_mhz, self.throttled = _gpu_state() if gpu else (None, None)

    def since(self, before: Look) -> Noise:
        """Return what was seen since an earlier look."""
        wall = max(self.at - before.at, 1e-9)
        steal = None
        if self.steal is not None and before.steal is not None:
            steal = max(0.0, self.steal - before.steal) / wall
        own = self.own - before.own
        # The counters tick in hundredths of a second.
        others = max(0.0, self.busy - before.busy - own - 0.02) / wall
        throttled = None
        if self.throttled is not None:
            throttled = bool(self.throttled or before.throttled)
        load = psutil.getloadavg()[0]
        return Noise(steal, others, load, self.cpu_mhz, self.gpu_mhz, throttled)


@cache
def _nvml() -> Any:
    """Return NVML's handle of the first GPU and its module, or None where there is no NVML."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
    except Exception:  # no library, no driver, no right to ask: then its clocks are not known
        return None


def _gpu_state() -> tuple[float | None, bool | None]:
    found = _nvml()
    if found is None:
        return None, None
    nvml, handle = found
    clock = float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
    reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    harmless = nvml.nvmlClocksThrottleReasonGpuIdle | nvml.nvmlClocksThrottleReasonNone
    harmless |= nvml.nvmlClocksThrottleReasonApplicationsClocksSetting
    return clock, bool(reasons & ~harmless)
