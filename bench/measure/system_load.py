"""How quiet the machine is while a benchmark is timed: what others take of it, and its clocks."""

import os
from collections.abc import Mapping
from typing import Any, Self

import psutil

from ..machine.devices import Call, device_of
from .timing import repeats_of, wall_clock

# In cores. A kernel of two threads on two cores loses as much to a tenth of a core as rounds of
# one process differ by; what the suite's own parent takes to follow a run is a tenth of that.
MAX_STEAL = 0.1
MAX_OTHER_CPU = 0.15
TICKS_S = 0.02  # the system's counters tick in hundredths of a second
BUSY = ("user", "nice", "system", "irq", "softirq")
# With an accelerator others may have all cores but those of the threads that call it: the main one
# and autograd's.
CALLING_THREADS = 2
MAX_THROTTLED = 0.01  # of the time; the driver counts in steps of up to 0.1 s
# Beyond torch's own on an accelerator, where others' processes are not told: a context and its
# libraries take up to about 1 GiB.
MAX_OTHER_BYTES = 2**31
ASKED_AFTER_S = 0.02  # of calls, before an accelerator's clock is asked for


class LoadSnapshot:
    """The counters of the system, of this process and of a device at one moment.

    With a call, and about how long it takes, those of an accelerator that is busy with it.
    """

    def __init__(
        self, device: str, call: Call = lambda: None, about_s: float = ASKED_AFTER_S
    ) -> None:
        times = psutil.cpu_times()
        self.at = wall_clock()
        self.steal: float | None = getattr(times, "steal", None)
        self.busy = sum(getattr(times, name, 0.0) for name in BUSY)
        self.own = sum(os.times()[:4])  # user and system, its children's too
        self.is_host = device_of(device).is_host

        def queue_calls() -> None:
            for _ in range(repeats_of(about_s, ASKED_AFTER_S)):
                call()

        self.device = device_of(device).load(queue_calls)

    def delta(self, before: Self) -> dict[str, Any]:
        """Return what was seen since an earlier snapshot, as columns of a sample.

        `steal`, `other_cpu` and `load` are in cores: what the hypervisor gave to somebody else
        (None where it does not say), what other processes took, and the one-minute load average.
        `contended` is whether something else used what the call needs, on the host the processor,
        on an accelerator that device or the cores that call it; or whether the accelerator was
        throttled.
        """
        wall_s = max(self.at - before.at, 1e-9)
        steal = None
        if self.steal is not None and before.steal is not None:
            steal = max(0.0, self.steal - before.steal) / wall_s
        others_s = self.busy - before.busy - (self.own - before.own) - TICKS_S
        other_cpu = max(0.0, others_s) / wall_s
        frequency = psutil.cpu_freq()
        accelerator = _of_accelerator(before.device, self.device, wall_s)
        shared = any(map(_is_shared, (before.device, self.device)))
        too_busy = _is_too_busy(self.is_host, steal or 0.0, other_cpu)
        return {
            "steal": steal,
            "other_cpu": other_cpu,
            "load": psutil.getloadavg()[0],
            "cpu_mhz": (frequency and frequency.current) or None,
            **accelerator,
            "contended": too_busy or shared or bool(accelerator["gpu_throttled"]),
        }


def _is_too_busy(is_host: bool, steal: float, other_cpu: float) -> bool:
    """Say whether others leave the processor too little for the call."""
    if is_host:
        return steal > MAX_STEAL or other_cpu > MAX_OTHER_CPU
    return steal + other_cpu > max(MAX_OTHER_CPU, (psutil.cpu_count() or 1) - CALLING_THREADS)


def _of_accelerator(
    before: Mapping[str, Any], now: Mapping[str, Any], wall_s: float
) -> dict[str, Any]:
    """Return its columns, and whether it was throttled: at either end, or for long in between."""
    throttled = [one.get("gpu_throttled") for one in (before, now)]
    counted = [one.get("gpu_throttled_s") for one in (before, now)]
    seconds: float | None = None
    if counted[0] is not None and counted[1] is not None:
        seconds = max(0.0, counted[1] - counted[0])
        throttled.append(seconds > MAX_THROTTLED * wall_s)
    known = [one for one in throttled if one is not None]
    found = {**now, "gpu_throttled_s": seconds} if now else {}
    return found | {"gpu_throttled": any(known) if known else None}


def _is_shared(device: Mapping[str, Any]) -> bool:
    """Say whether others compute on an accelerator, by their memory where they are not told."""
    others = device.get("gpu_processes")
    if others is None:
        return bool(device.get("gpu_other_bytes", 0) > MAX_OTHER_BYTES)
    return bool(others > 0)
