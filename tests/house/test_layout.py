"""What the source must not hold, and that it declares what it imports.

Which package imports which is held by `tox -e lint`.
"""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from paths import ROOT

from mlr import KERNELS, OPERATIONS


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
    """So that two versions can live in one process; a kernel file and a script have no package."""
    own = {"mlr", "bench"} if path.is_relative_to(ROOT / "mlr") else {"bench"}
    own = set() if path.name in ("doubled_baseline.py", "mlr_bench.py") else own
    for name in imports_of(path):
        assert name.split(".")[0] not in own | {"tests"}, name


CLOCKS = ("perf_counter", "process_time", "synchronize(", "Event(", ".Event")
ALLOCATORS = ("memory_allocated", "memory_reserved", " profile(", "tracemalloc", "malloc_trim")
DEVICE_TYPES = ("torch.cuda", 'startswith("cuda', '== "cuda', "is_cuda", "cuda.is_available")
ALLOWED = {
    "machine/devices.py": {*DEVICE_TYPES, "perf_counter", "synchronize(", ".Event",
                           *ALLOCATORS},
    "machine/host.py": {"perf_counter", "tracemalloc", "malloc_trim"},
    "machine/device_time.py": {"perf_counter", "synchronize(", "Event(", ".Event"},
    "machine/device_memory.py": {"synchronize(", *ALLOCATORS},
    "measure/timing.py": {"perf_counter", "process_time"},
    "experiments/independent.py": {"perf_counter"},  # it uses none of the suite's timing code
}  # fmt: skip


@pytest.mark.parametrize("path", sources("bench"), ids=lambda p: p.name)
def test_only_devices_and_timing_touch_clocks_allocators_and_types_of_device(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    allowed = ALLOWED.get(path.relative_to(ROOT / "bench").as_posix(), set())
    for forbidden in {*CLOCKS, *ALLOCATORS, *DEVICE_TYPES} - allowed:
        assert forbidden not in text, forbidden


SHOWING = ("store", "analysis", "report", "cli")
NAMES = {*OPERATIONS, *(one.name for one in KERNELS.values() if one.built_in)} - {"auto"}  # a role


@pytest.mark.parametrize("package", SHOWING)
def test_what_shows_results_names_no_operation_and_no_kernel(package: str) -> None:
    """All of them come out of the runs; `store/built_in.toml` has what older runs do not say."""
    paths = [one for kind in ("*.py", "*.js") for one in (ROOT / "bench" / package).rglob(kind)]
    for path in paths:
        quoted = re.findall(r"[\"'`](\w+)[\"'`]", path.read_text(encoding="utf-8"))
        assert not NAMES & set(quoted), path


def named(requirements: list[object], groups: dict[str, list[object]]) -> set[str]:
    """Return the distributions that requirements name, by PyPI's spelling."""
    found = set()
    for one in requirements:
        if isinstance(one, str):
            found.add(re.match(r"[\w.-]+", one)[0].lower().replace("_", "-"))
        else:
            found |= named(groups[one["include-group"]], groups)
    return found


@pytest.mark.parametrize("folder", ["mlr", "bench"])
def test_every_import_is_declared(folder: str) -> None:
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, groups = whole["project"], whole["dependency-groups"]
    required = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {name for some in required for name in named(some, groups)}
    declared |= {"triton", "numpy"}  # torch brings them, and without it neither is imported
    known = {"pynvml": ["nvidia-ml-py"], **packages_distributions()}  # the one that is optional
    modules = {name.partition(".")[0] for path in sources(folder) for name in imports_of(path)}
    for module in sorted(modules - sys.stdlib_module_names - {"", "mlr", "bench"}):
        of = {name.lower().replace("_", "-") for name in known.get(module, [module])}
        assert of & declared, f"{module}, of {', '.join(of)}, is not declared in pyproject.toml"


def test_what_shows_results_is_of_the_dependencies_and_measures_nothing() -> None:
    """The group for a machine without torch says again what the wheel depends on."""
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    report = set(whole["dependency-groups"]["report"])
    assert report <= set(whole["project"]["dependencies"])
    assert not named(list(report), {}) & {"torch", "pytest", "psutil", "llvmlite"}


def test_the_page_of_the_suite_names_every_package_and_no_other() -> None:
    page = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    table = page.partition("## The packages")[2].partition("## ")[0]
    named = {name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line[:40])}
    assert named == {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    for path in re.findall(r"`([\w./]+\.(?:py|toml))`", page):
        assert list((ROOT / "bench").rglob(Path(path).name)) or (ROOT / path).exists(), path
