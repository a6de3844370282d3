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


@pytest.mark.parametrize("path", sources("mlr"), ids=lambda p: p.name)
def test_mlr_imports_itself_relatively_and_never_bench(path: Path) -> None:
    for name in imports_of(path):
        assert name.split(".")[0] not in {"mlr", "bench", "tests"}, name


@pytest.mark.parametrize("path", sources("bench"), ids=lambda p: p.name)
def test_bench_imports_itself_relatively_and_no_tests(path: Path) -> None:
    """A wheel can so carry it under another name; a kernel file has no package to start from."""
    own = {"tests"} if path.name == "doubled_baseline.py" else {"tests", "bench"}
    for name in imports_of(path):
        assert name.split(".")[0] not in own, name


@pytest.mark.parametrize("path", sources("bench"), ids=lambda p: p.name)
def test_only_measure_touches_clocks_and_only_memory_allocators(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    clocks = ("perf_counter", "process_time", "synchronize(", "Event(")
    allocators = ("memory_allocated", "profile(", "tracemalloc", "malloc_trim")
    allowed = {"timing.py": clocks, "memory.py": (*allocators, "synchronize(")}
    for forbidden in {*clocks, *allocators} - set(allowed.get(path.name, ())):
        if path.match("machine/info.py") and forbidden == "memory_allocated":
            continue  # how much is free, not what a call takes
        assert forbidden not in text, forbidden
