"""The import directions of the design, read off the source."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
def test_bench_imports_no_tests_and_nothing_relatively(path: Path) -> None:
    for name in imports_of(path):
        assert name.split(".")[0] not in {"tests", ""}, name


def test_what_shows_needs_no_torch() -> None:
    """Follow every import of the report to its end."""
    allowed = {"pandas", "numpy", "scipy", "matplotlib", "pydantic", "pydantic_core"}
    allowed |= {"jinja2", "markdown_it", "markupsafe", "PIL", "pyarrow"}
    left, seen = ["report", "passes"], set()
    while left:
        name = left.pop()
        seen.add(name)
        module = ROOT / "bench" / name
        path = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
        for imported in imports_of(path):
            top, _, rest = imported.partition(".")
            assert top in {*allowed, "bench"} or top in sys.stdlib_module_names, (name, imported)
            if top == "bench" and rest and rest not in seen:
                left.append(rest)
    assert {"store", "schema", "tables", "figures", "markdown"} <= seen


@pytest.mark.parametrize("path", sources("bench"), ids=lambda p: p.name)
def test_only_measure_touches_clocks_and_only_memory_allocators(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    clocks = ("perf_counter", "process_time", "synchronize(", "Event(")
    allocators = ("memory_allocated", "profile(", "tracemalloc", "malloc_trim")
    allowed = {"measure.py": clocks, "memory.py": (*allocators, "synchronize(")}
    for forbidden in {*clocks, *allocators} - set(allowed.get(path.name, ())):
        if path.name == "machine.py" and forbidden == "memory_allocated":
            continue  # how much is free, not what a call takes
        assert forbidden not in text, forbidden
