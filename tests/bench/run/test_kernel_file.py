"""A kernel of a user's own, out of a file and out of a package, on all its ways."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from paths import ROOT

from bench.cli.commands import plan
from bench.cli.main import main
from bench.store.runs import load_run
from bench.store.schema import Ceilings

README = (ROOT / "README.md").read_text(encoding="utf-8")
# The README's own: what it shows is what runs here.
FILE = re.search(r"```python\n(# my\.py\n.*?)```", README, re.DOTALL)[1]
TINY = ["--grid=smoke", "--operation=gradient", "--dtype=float64", "--batch=40", "--features=5",
        "--outputs=4", "--device=cpu"]  # fmt: skip
MINE = ("transposed", "offered")


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def bench(user: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=400, check=False,
        env=os.environ | {"PYTHONPATH": str(user / "packages"), "COLUMNS": "80"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def stored(user: Path) -> Path:
    """A run of both kernels beside built-in ones."""
    out = user / "results"
    kernels = "--kernel=transposed,offered,matmul,autograd"
    file = f"--kernel-file={user / 'my.py'}"
    done = bench(user, "bench", "run", *TINY, file, kernels, "--processes=1", f"--out={out}")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


@pytest.mark.slow  # test_plugin runs the file in a session, and others of a user's in a run
def test_it_is_measured_like_a_built_in(stored: Path) -> None:
    found = {one.extra_info.kernel: one for one in load_run(stored).benchmarks}
    assert set(found) == {*MINE, "matmul", "autograd"}
    for name in MINE:
        info = found[name].extra_info
        assert (info.status, info.baseline) == ("ok", "autograd")
        assert info.speedup is not None
        assert info.roofline_s is not None
        assert info.peak_bytes == found["matmul"].extra_info.peak_bytes
        assert info.max_rel_error is not None
        assert info.max_rel_error < 1e-15


@pytest.mark.slow
def test_it_is_reported_like_a_built_in(stored: Path, user: Path) -> None:
    out = user / "report"
    done = bench(user, "bench", "report", f"--out={user}", "--format=html,md,csv", str(stored))
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(out / "results.csv").set_index("kernel")
    page = (out / "report.html").read_text(encoding="utf-8")
    for name in MINE:
        assert table.loc[name, "status"] == "ok"
        assert table.loc[name, "median_s"] > 0
        assert f"<td>{name}</td>" in page


def test_it_is_planned(
    user: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(user / "packages"))
    monkeypatch.setattr(plan, "measure_ceilings", lambda device: Ceilings())
    assert main(["plan", *TINY, f"--kernel-file={user / 'my.py'}"]) == 0
    sys.modules.pop("offering")
    planned = capsys.readouterr().out
    for name in MINE:
        assert name in planned


def test_a_mistake_in_it_shows_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.py").write_text(f"{FILE}\nimport nothing_like_it")
    assert main(["plan", f"--kernel-file={tmp_path / 'my.py'}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "my.py:9: ModuleNotFoundError" in error
