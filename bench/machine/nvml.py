"""What NVIDIA's management library (NVML, of nvidia-ml-py) tells of a GPU, where it may be asked.

Any question may be refused: on a part of a GPU (MIG), in a container, on a virtual GPU, by an older
driver. What is refused is not known, None, and never an error.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import Any

# How long the GPU was throttled, counted by the driver in ns: by the power limit, by heat as the
# driver or the hardware sees it, by the power supply. The last two had other numbers in NVML before
# CUDA 13: a driver that is older than the library refuses them, or has something else there.
COUNTERS = (
    "NVML_FI_DEV_PERF_POLICY_POWER",
    "NVML_FI_DEV_PERF_POLICY_THERMAL",
    "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN",
    "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN",
)
COUNTER_TYPE = 3  # of a counter's value: NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
# Bits of nvml.h that say that it is throttled now: SwPowerCap, HwSlowdown, SwThermalSlowdown,
# HwThermalSlowdown, HwPowerBrakeSlowdown. The library renames them, from ThrottleReason to
# EventReason.
THROTTLED = 0x04 | 0x08 | 0x20 | 0x40 | 0x80
COMPUTE_MODES = {0: "default", 2: "prohibited", 3: "exclusive process"}
EXCLUSIVE = COMPUTE_MODES[3]


def _known(ask: Callable[[], Any]) -> Any:
    with suppress(Exception):  # refused, or a function that this version of the library lacks
        return ask()
    return None


class Gpu:
    """A GPU, or a part of one, as NVML sees it."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        # Clocks and power are those of the whole GPU.
        whole = _known(lambda: nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle))
        self._whole = handle if whole is None else whole

    def load(self) -> dict[str, Any]:
        """Return how it is at this moment.

        `gpu_mhz` is its clock, `gpu_throttled` whether it is throttled, `gpu_throttled_s` for how
        many seconds it was so far, added up over the reasons, and `gpu_processes` how many others
        compute on it. A container is often told of no process, not even of its own: then how many
        others there are is not known.
        """
        nvml, gpu = self._nvml, self._whole
        mhz = _known(lambda: float(nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)) or None)
        reasons = _known(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu))
        if reasons is None:  # as an older version of the library calls it
            reasons = _known(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu))
        found = _known(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(self._handle))
        return {
            "gpu_mhz": mhz,
            "gpu_throttled": None if reasons is None else bool(reasons & THROTTLED),
            "gpu_throttled_s": self._throttled_s(),
            "gpu_processes": len({one.pid for one in found}) - 1 if found else None,
        }

    def _throttled_s(self) -> float | None:
        numbers = [number for name in COUNTERS if (number := getattr(self._nvml, name, None))]
        values = _known(lambda: self._nvml.nvmlDeviceGetFieldValues(self._whole, numbers)) or ()
        counted = [
            int(one.value.ullVal)
            for one in values
            if one.nvmlReturn == 0 and one.valueType == COUNTER_TYPE
        ]
        return sum(counted) / 1e9 if counted else None

    def settings(self) -> dict[str, Any]:
        """Return what it is set to: the power limit in watts, MIG, persistence, compute mode."""
        nvml, gpu = self._nvml, self._whole
        mode = _known(lambda: nvml.nvmlDeviceGetComputeMode(gpu))
        return {
            "power_limit_w": _known(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000),
            "mig": _known(lambda: bool(nvml.nvmlDeviceGetMigMode(gpu)[0])),
            "persistence": _known(lambda: bool(nvml.nvmlDeviceGetPersistenceMode(gpu))),
            "compute_mode": COMPUTE_MODES.get(mode),
        }

    @property
    def is_exclusive(self) -> bool:
        """Whether it lets in one process at a time."""
        return bool(self.settings()["compute_mode"] == EXCLUSIVE)

    def driver(self) -> str | None:
        """Return the version of the driver."""
        version = _known(lambda: self._nvml.nvmlSystemGetDriverVersion())
        return None if version is None else str(version)


@cache
def find_gpu(uuid: str) -> Gpu | None:
    """Return the GPU of a UUID as torch and CUDA give it, of a whole one or of a part; or None.

    NVML numbers GPUs by their place on the bus, whatever `CUDA_VISIBLE_DEVICES` says.
    """
    try:
        import pynvml as nvml

        nvml.nvmlInit()
    except Exception:  # no library, or no driver
        return None
    for kind in ("MIG-", "GPU-"):
        name = f"{kind}{uuid.removeprefix('GPU-')}"
        if (handle := _known(partial(nvml.nvmlDeviceGetHandleByUUID, name))) is not None:
            return Gpu(nvml, handle)
    return None
