"""`bench scaling` under torchrun: what it stores, and what is left when a worker dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from scaling_runs import result, run_of
from workers import reasons, torchrun

from bench.cli.commands import scaling
from bench.cli.main import main
from bench.machine.cores import usable
from bench.scaling import measure
from bench.scaling.records import ScalingRun

SMALL = ("--batch=100", "--outputs=3", "--dtype=float64", "--rounds=2", "--timeout=20")
KERNELS = """
import os, signal
from mlr import Gradient, kernel

@kernel(operation="gradient", flops=lambda m, n, o, s: 2 * m * n * o,
        workspace=lambda m, n, o, s: 0)
def half(x, delta):
    return Gradient(x.T @ delta, delta.sum(0) / 2)

@kernel(operation="gradient", flops=lambda m, n, o, s: 2 * m * n * o,
        workspace=lambda m, n, o, s: 0)
def deadly(x, delta):
    if os.environ.get("RANK") == "1" and x.shape[1] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return Gradient(x.T @ delta, delta.sum(0))
"""


def scale(out: Path, *arguments: str) -> Any:
    return torchrun(2, "-m", "bench", "scaling", *SMALL, f"--out={out}", *arguments)


@pytest.fixture(scope="module")
def kernel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kernels") / "mine.py"
    path.write_text(KERNELS)
    return path


def test_a_run_is_stored_whole(tmp_path: Path, kernel_file: Path) -> None:
    """The command starts its workers twice over, and what both measured is one run."""
    chosen = (f"--kernel-file={kernel_file}", "--kernel=matmul,half", "--weak", "--features=6")
    threads = min(2, usable()[1])  # of each worker: torchrun itself would give it one
    chosen = (*chosen, f"--threads={threads}")
    command = [sys.executable, "-m", "bench", "scaling", *SMALL, *chosen, f"--out={tmp_path}"]
    done = subprocess.run(
        [*command, "--launches=2"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [one.threads for one in ScalingRun.latest(tmp_path)[0].ranks] == [threads] * 2
    assert done.stdout.split() == [str(path) for path in tmp_path.rglob("*.json")]
    (run,) = ScalingRun.latest(tmp_path)
    assert (run.mode, run.world, run.settings["complete"]) == ("weak", 2, True)
    assert run.launches == 2
    assert [one.rank for one in run.ranks] == [0, 1]
    by_name = {one.kernel: one for one in run.results}
    assert list(by_name) == ["matmul", "half", "ddp", "statistics"]
    wrong = by_name.pop("half")
    assert wrong.status == "wrong"
    assert "against the oracle" in str(wrong.reason)
    assert not wrong.step_s + wrong.single_process_s + wrong.compute_s + wrong.ddp_log_ratios
    for name, one in by_name.items():
        assert one.status == "ok", one.reason
        assert one.batch == 200
        assert one.max_rel_error is not None
        assert one.max_rel_error < 1e-14
        assert len(one.step_s) == len(one.single_process_s) == 4
        assert [len(ranks) for ranks in one.compute_s] == ([] if name == "ddp" else [2] * 4)
        for slowest, ranks in zip(one.compute_max_s, one.compute_s, strict=True):
            assert slowest >= max(ranks) * (1 - 1e-12)
        assert len(one.ddp_log_ratios) == (0 if name == "ddp" else 4)
    assert by_name["matmul"].message_bytes == (6 * 3 + 3 + 1) * 8
    assert [point.bytes for point in run.all_reduces] == list(measure.SIZES)
    assert {len(point.seconds) for point in run.all_reduces} == {2 * measure.SWEEPS}


@pytest.mark.slow
def test_what_was_measured_outlives_a_worker(tmp_path: Path, kernel_file: Path) -> None:
    """Worker 1 dies in the second case; the first is stored, and worker 0 says who was lost."""
    chosen = (f"--kernel-file={kernel_file}", "--kernel=deadly", "--features=6,7")
    done = scale(tmp_path, *chosen)
    assert done.returncode != 0
    assert "rank 1 gave no sign of life" in reasons(done)[0]
    (run,) = ScalingRun.latest(tmp_path)
    assert not run.settings["complete"]
    assert [(one.kernel, one.in_features) for one in run.results] == [
        ("deadly", 6), ("ddp", 6), ("statistics", 6),
    ]  # fmt: skip


def test_one_worker_is_too_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert main(["scaling", *SMALL, f"--out={tmp_path}", "--workers=1"]) == 2
    said = capsys.readouterr().err
    assert "two workers or more with one; got --workers 1" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("good", [0, 2])
def test_a_launch_that_fails_ends_the_command_and_what_was_measured_is_stored(
    good: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has one of two cases: without another launch that is stored, else the whole ones are."""
    launched = []

    def launch(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        launched.append(command)
        failed = len(launched) > good
        cases = [result("matmul"), result("one_pass")][: 1 if failed else 2]
        run_of(results=cases).store(Path(command[-1]))
        return subprocess.CompletedProcess(command, int(failed))

    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(scaling.subprocess, "run", launch)
    assert main(["scaling", *SMALL, f"--out={tmp_path}"]) == 2
    assert len(launched) == good + 1
    assert "--nproc-per-node=2" in launched[0]
    (run,) = ScalingRun.latest(tmp_path)
    assert (run.launches, len(run.results)) == ((good, 2) if good else (1, 1))
