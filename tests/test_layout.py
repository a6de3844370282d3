"""The import directions of the design, read off the source."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WITHOUT_TORCH = (
    *("schema", "store", "units", "tables", "figures", "drawing", "markdown", "report", "errors"),
)


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


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_what_shows_needs_no_torch(name: str) -> None:
    allowed = {"pandas", "numpy", "matplotlib", "pydantic", "jinja2", "bench"}
    for imported in imports_of(ROOT / "bench" / f"{name}.py"):
        top = imported.split(".")[0]
        assert top in allowed or top in sys.stdlib_module_names, imported
        if top == "bench":
            assert imported.split(".")[-1] in WITHOUT_TORCH, imported


@pytest.mark.parametrize("path", sources("bench"), ids=lambda p: p.name)
def test_only_measure_touches_clocks_and_allocators(path: Path) -> None:
    if path.name == "measure.py":
        return
    text = path.read_text(encoding="utf-8")
    for forbidden in ("perf_counter", "synchronize(", "max_memory_allocated", "profile("):
        assert forbidden not in text, forbidden
