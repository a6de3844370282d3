"""What the source must not hold; which package imports which is held by `tox -e lint`."""

import ast
from pathlib import Path

import pytest
from paths import ROOT


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def sources(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("path", sources("mlr") + sources("bench"), ids=lambda p: p.name)
def test_each_imports_itself_relatively_and_no_tests(path: Path) -> None:
    """So that two versions can live in one process; a kernel file has no package to start from."""
    own = {"mlr", "bench"} if path.is_relative_to(ROOT / "mlr") else {"bench"}
    own = set() if path.name == "doubled_baseline.py" else own
    for name in imports_of(path):
        assert name.split(".")[0] not in own | {"tests"}, name


CLOCKS = ("perf_counter", "process_time", "synchronize(", "Event(", ".Event")
ALLOCATORS = ("memory_allocated", "memory_reserved", "profile(", "tracemalloc", "malloc_trim")
DEVICE_TYPES = ("torch.cuda", 'startswith("cuda', '== "cuda', "is_cuda", "cuda.is_available")
ALLOWED = {
    "machine/devices.py": {*DEVICE_TYPES, "perf_counter", "synchronize(", ".Event",
                           *ALLOCATORS},
    "measure/timing.py": {"perf_counter", "process_time"},
}  # fmt: skip


@pytest.mark.parametrize("path", sources("bench"), ids=lambda p: p.name)
def test_only_devices_and_timing_touch_clocks_allocators_and_types_of_device(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    allowed = ALLOWED.get(path.relative_to(ROOT / "bench").as_posix(), set())
    for forbidden in {*CLOCKS, *ALLOCATORS, *DEVICE_TYPES} - allowed:
        assert forbidden not in text, forbidden
