"""A kernel of a user's own, out of a file and out of a package, on all its ways."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from paths import ROOT

from bench.store.runs import load_run

README = (ROOT / "README.md").read_text(encoding="utf-8")
# The README's own: what it shows is what runs here.
FILE = re.search(r"```python\n(# my\.py\n.*?)```", README, re.DOTALL)[1]
TINY = ["--grid=smoke", "--stage=gradient", "--dtype=float64", "--batch=40", "--features=5",
        "--outputs=4", "--device=cpu"]  # fmt: skip
MINE = ("transposed", "offered")


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a user's file, and an installed package that offers a kernel."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "my.py").write_text(FILE)
    packages = folder / "packages"
    (packages / "offering-1.dist-info").mkdir(parents=True)
    (packages / "offering-1.dist-info" / "METADATA").write_text("Name: offering\nVersion: 1\n")
    (packages / "offering-1.dist-info" / "entry_points.txt").write_text(
        "[mlr.kernels]\noffering = offering\n"
    )
    (packages / "offering.py").write_text(FILE.replace("transposed", "offered"))
    return folder


def bench(brought: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=400, check=False,
        env=os.environ | {"PYTHONPATH": str(brought / "packages"), "COLUMNS": "80"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def stored(brought: Path) -> Path:
    """A run of both kernels beside built-in ones."""
    out = brought / "results"
    kernels = "--kernel=transposed,offered,matmul,autograd"
    file = f"--kernel-file={brought / 'my.py'}"
    done = bench(brought, "bench", "run", *TINY, file, kernels, "--passes=2", f"--out={out}")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def test_it_is_measured_like_a_built_in(stored: Path) -> None:
    found = {one.extra_info.kernel: one for one in load_run(stored).benchmarks}
    assert set(found) == {*MINE, "matmul", "autograd"}
    for name in MINE:
        info = found[name].extra_info
        assert (info.status, info.baseline) == ("ok", "autograd")
        assert info.passes >= 2  # more where a pass was taken again
        assert info.speedup is not None
        assert info.floor_s is not None
        assert info.peak_bytes == found["matmul"].extra_info.peak_bytes
        assert info.max_rel_error is not None
        assert info.max_rel_error < 1e-15


def test_it_is_reported_like_a_built_in(stored: Path, brought: Path) -> None:
    out = brought / "report"
    done = bench(brought, "bench", "report", f"--out={brought}", str(stored))
    assert done.returncode == 0, done.stderr
    tables = [pd.read_csv(path) for path in (out / "tables").glob("*-gradient-cpu-float64.csv")]
    assert len(tables) == 1
    text = (out / "REPORT.md").read_text(encoding="utf-8")
    for name in MINE:
        row = tables[0][tables[0]["kernel"] == name].iloc[0]
        assert row["status"] == "ok"
        assert row["median_s"] > 0
        assert re.search(rf"^\|.*\| {name}( †)? +\| .*× ", text, re.MULTILINE)
    assert (out / "report.html").is_file()


def test_it_is_planned_and_a_plain_pytest_takes_it(brought: Path, tmp_path: Path) -> None:
    chosen = [*TINY, f"--kernel-file={brought / 'my.py'}", "--kernel=transposed,offered,autograd"]
    planned = bench(brought, "bench", "plan", *chosen)
    assert planned.returncode == 0, planned.stderr
    file = tmp_path / "run.json"
    done = bench(brought, "pytest", "bench", *chosen, f"--benchmark-json={file}")
    assert done.returncode == 0, done.stdout[-500:]
    names = {one["extra_info"]["kernel"] for one in json.loads(file.read_text())["benchmarks"]}
    assert names == {*MINE, "autograd"}
    for name in MINE:
        assert name in planned.stdout


def test_the_gate_finds_what_became_worse_in_it(brought: Path, tmp_path: Path) -> None:
    """Both sides have the package; each has its own version of the file."""
    for side in ("old", "new"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "mlr", tmp_path / side / "mlr", ignore=ignored)
        (tmp_path / side / "my.py").write_text(FILE)
    worse = FILE.replace("(delta.T @ x).T", "(delta.T.contiguous() @ x).T")
    assert worse != FILE
    (tmp_path / "new" / "my.py").write_text(worse)
    done = bench(
        brought, "bench", "gate", str(tmp_path / "old"), str(tmp_path / "new"), *TINY,
        f"--kernel-file={tmp_path / 'new' / 'my.py'}", "--kernel=transposed,offered,matmul",
        "--budget=1s", f"--out={tmp_path / 'gate'}",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    told = json.loads((tmp_path / "gate" / "gate.json").read_text())["cases"]
    faults = {one["name"].partition("-")[0]: "; ".join(one["faults"]) for one in told}
    assert set(faults) == {*MINE, "matmul"}
    assert "bytes at peak" in faults["transposed"]
    assert faults["offered"] == faults["matmul"] == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0", "my.py:1: ZeroDivisionError"),
        (f"{FILE}\nimport nothing_like_it", "my.py:9: ModuleNotFoundError"),
        ("def (", "my.py:1: SyntaxError"),
    ],
)
def test_a_mistake_in_it_shows_its_line(
    brought: Path, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "my.py").write_text(text)
    done = bench(brought, "bench", "plan", f"--kernel-file={tmp_path / 'my.py'}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
