"""What NVML is asked, of which GPU, and that whatever it refuses is not known."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bench.machine.nvml import COUNTERS, Gpu, find_gpu

UUID = "1b5a3c0e-0000-1111-2222-333344445555"
IDLE, APPLICATION_CLOCKS, POWER_CAP, HEAT = 0x1, 0x2, 0x4, 0x20


class RefusedError(Exception):
    """As `NVMLError_NotSupported`, `NVMLError_NoPermission` and their like."""


def refuse(*_: Any) -> Any:
    raise RefusedError


def value(counted: int, refused: int = 0, kind: int = 3) -> SimpleNamespace:
    held = SimpleNamespace(ullVal=counted)
    return SimpleNamespace(nvmlReturn=refused, valueType=kind, value=held)


class FakeNvml:
    """The functions of pynvml that are asked, of a machine with two GPUs; some of them refuse."""

    NVML_CLOCK_SM = 1
    NVML_FI_DEV_PERF_POLICY_POWER = 74
    NVML_FI_DEV_PERF_POLICY_THERMAL = 75
    NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN = 270
    NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN = 271

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.handles = {"GPU-other": "other", f"GPU-{UUID}": "ours"}
        self.whole = {"slice": "whole"}
        self.reasons, self.pids, self.mode = 0, [10], 0
        counted = {74: value(2_000_000_000), 75: value(500_000_000), 270: value(7, refused=3),
                   271: value(90, kind=0)}  # fmt: skip
        clocks = {("ours", 1): 1_980, ("whole", 1): 1_980}
        self.answers: dict[str, Callable[..., Any]] = {
            "nvmlInit": lambda: None,
            "nvmlDeviceGetHandleByUUID": lambda uuid: self.handles[uuid],
            "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda handle: self.whole[handle],
            "nvmlDeviceGetClockInfo": lambda *asked: clocks[asked],
            "nvmlDeviceGetCurrentClocksEventReasons": lambda handle: self.reasons,
            "nvmlDeviceGetFieldValues": lambda handle, numbers: [counted[one] for one in numbers],
            "nvmlDeviceGetComputeRunningProcesses": self.processes,
            "nvmlDeviceGetEnforcedPowerLimit": lambda handle: 700_000,
            "nvmlDeviceGetMigMode": lambda handle: [int(handle == "whole"), 0],
            "nvmlDeviceGetPersistenceMode": lambda handle: 1,
            "nvmlDeviceGetComputeMode": lambda handle: self.mode,
            "nvmlSystemGetDriverVersion": lambda: "580.159.03",
        }

    def __getattr__(self, name: str) -> Any:
        """Return a function; one that refuses raises as NVML does."""
        if name not in self.answers:
            raise AttributeError(name)
        return refuse if name in self.refused else self.answers[name]

    def processes(self, handle: str) -> list[SimpleNamespace]:
        assert handle in ("ours", "slice")
        return [SimpleNamespace(pid=pid) for pid in self.pids]


QUESTIONS = [name for name in FakeNvml().answers if "Handle" not in name]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """NVML as it is imported; no GPU is known from another test."""
    found = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", found)
    find_gpu.cache_clear()
    return found


def asked() -> Gpu:
    find_gpu.cache_clear()
    found = find_gpu(UUID)
    assert found is not None
    return found


def test_the_gpu_is_the_one_that_cuda_uses_and_not_the_first_on_the_bus(fake: FakeNvml) -> None:
    assert asked().load() == {
        "gpu_mhz": 1_980.0,
        "gpu_throttled": False,
        "gpu_throttled_s": 2.5,  # what is refused of them, or no counter, is left out
        "gpu_processes": 0,
    }
    assert find_gpu(f"GPU-{UUID}") is not None
    assert find_gpu("unknown") is None


def test_a_slice_of_a_gpu_has_the_clocks_of_the_whole_and_processes_of_its_own(
    fake: FakeNvml,
) -> None:
    fake.handles = {f"MIG-{UUID}": "slice"}
    assert asked().load()["gpu_mhz"] == 1_980.0
    assert asked().settings()["mig"] is True


@pytest.mark.parametrize(
    ("reasons", "throttled"),
    [(0, False), (IDLE | APPLICATION_CLOCKS, False), (POWER_CAP, True), (IDLE | HEAT, True)],
)
def test_a_gpu_is_throttled_where_it_is_neither_idle_nor_set_so(
    fake: FakeNvml, reasons: int, throttled: bool
) -> None:
    fake.reasons = reasons
    assert asked().load()["gpu_throttled"] is throttled


def test_an_older_library_has_another_name_for_the_reasons(fake: FakeNvml) -> None:
    del fake.answers["nvmlDeviceGetCurrentClocksEventReasons"]
    fake.answers["nvmlDeviceGetCurrentClocksThrottleReasons"] = lambda handle: HEAT
    assert asked().load()["gpu_throttled"] is True


@pytest.mark.parametrize(("pids", "others"), [([], None), ([3], 0), ([3, 4, 4], 1), ([3, 4, 5], 2)])
def test_others_are_counted_where_the_own_process_is_told_of(
    fake: FakeNvml, pids: list[int], others: int | None
) -> None:
    fake.pids = pids
    assert asked().load()["gpu_processes"] == others


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_refused_is_not_known(fake: FakeNvml, question: str) -> None:
    fake.refused = {question}
    if question == "nvmlInit":
        find_gpu.cache_clear()
        assert find_gpu(UUID) is None
        return
    gpu = asked()
    answers = [*gpu.load().values(), *gpu.settings().values(), gpu.driver()]
    assert answers.count(None) == 1
    assert not gpu.is_exclusive


def test_a_gpu_that_may_not_be_asked_at_all_knows_nothing(fake: FakeNvml) -> None:
    fake.refused = {*QUESTIONS} - {"nvmlInit"}
    gpu = asked()
    assert {*gpu.load().values(), *gpu.settings().values(), gpu.driver()} == {None}


def test_without_the_library_no_gpu_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    find_gpu.cache_clear()
    assert find_gpu(UUID) is None


def test_settings_say_what_may_differ_from_day_to_day(fake: FakeNvml) -> None:
    usual = {"power_limit_w": 700.0, "mig": False, "persistence": True, "compute_mode": "default"}
    assert asked().settings() == usual
    assert not asked().is_exclusive
    fake.mode = 3
    assert asked().is_exclusive
    assert asked().driver() == "580.159.03"


@pytest.mark.cuda
def test_nvml_knows_this_gpu_and_counts_for_how_long_its_clocks_are_held_down() -> None:
    """The numbers of the counters are those of this driver, at least of the stable two."""
    pynvml = pytest.importorskip("pynvml")
    from bench.machine.devices import accelerator

    here = accelerator()
    assert here is not None
    assert here.gpu() is not None
    assert {74, 75} <= {getattr(pynvml, name, None) for name in COUNTERS}
    told = here.load()
    assert told["gpu_mhz"] is not None
    assert told["gpu_throttled_s"] is not None
