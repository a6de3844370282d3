"""`bench scaling` under torchrun: what it stores, and what is left when a worker dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_stream import install_stream
from paths import ROOT
from scaling_runs import result, run_of
from workers import reasons, torchrun

from bench.cli.commands import scaling
from bench.cli.main import main
from bench.machine.cores import usable
from bench.scaling import measure
from bench.scaling.records import ScalingRun
from mlr.distributed import Workers

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


@pytest.fixture(scope="module")
def kernel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kernels") / "mine.py"
    path.write_text(KERNELS)
    return path


def test_a_run_is_stored_whole(
    tmp_path: Path,
    kernel_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The command starts its workers, here once, and stores what they measured."""
    chosen = (f"--kernel-file={kernel_file}", "--kernel=matmul,half", "--weak", "--features=6")
    threads = min(2, usable()[1])  # of each worker: torchrun itself would give it one
    command = ["scaling", *SMALL, *chosen, f"--threads={threads}", "--launches=1"]
    monkeypatch.setattr(sys, "argv", ["bench", *command, f"--out={tmp_path}"])
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # or threads take turns
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.chdir(ROOT)
    status, shown = main(), capfd.readouterr()
    assert status == 0, shown.err[-2000:]
    assert shown.out.split() == [str(path) for path in tmp_path.rglob("*.json")]
    (run,) = ScalingRun.latest(tmp_path)
    assert (run.mode, run.world, run.settings["complete"]) == ("weak", 2, True)
    assert [(one.rank, one.threads) for one in run.ranks] == [(0, threads), (1, threads)]
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
        assert len(one.step_s) == len(one.single_process_s) == 2
        assert [len(ranks) for ranks in one.compute_s] == ([] if name == "ddp" else [2] * 2)
        for slowest, ranks in zip(one.compute_max_s, one.compute_s, strict=True):
            assert slowest >= max(ranks) * (1 - 1e-12)
        assert len(one.ddp_log_ratios) == (0 if name == "ddp" else 2)
    assert by_name["matmul"].message_bytes == (6 * 3 + 3 + 1) * 8
    assert [point.bytes for point in run.all_reduces] == list(measure.SIZES)
    assert {len(point.seconds) for point in run.all_reduces} == {measure.SWEEPS}


@pytest.mark.slow
def test_what_was_measured_outlives_a_worker(tmp_path: Path, kernel_file: Path) -> None:
    """Worker 1 dies in the second case; the first is stored, and worker 0 says who was lost."""
    chosen = (f"--kernel-file={kernel_file}", "--kernel=deadly", "--features=6,7")
    done = torchrun(2, "-m", "bench", "scaling", *SMALL, f"--out={tmp_path}", *chosen)
    assert done.returncode != 0
    assert "rank 1 gave no sign of life" in reasons(done)[0]
    (run,) = ScalingRun.latest(tmp_path)
    assert not run.settings["complete"]
    assert [(one.kernel, one.in_features) for one in run.results] == [
        ("deadly", 6), ("ddp", 6), ("statistics", 6),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mistake", "rule"),
    [
        ("--workers=1", "two workers or more with one; got --workers 1"),
        ("--kernel=typo", "got 'typo'"),
        ("--device=cpu,cuda", "scaling takes --device cpu or cuda; got cpu,cuda"),
        ("--threads=1,all", "--threads takes one number here; got 1,all"),
    ],
)
def test_a_mistake_is_one_line_before_any_worker_starts(
    mistake: str,
    rule: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(scaling.subprocess, "run", None)
    monkeypatch.setattr("bench.plan.selection.usable", lambda: (2, 2))
    assert main(["scaling", *SMALL, mistake]) == 2
    said = capsys.readouterr().err
    assert rule in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("good", [0, 2, 5])
def test_the_launches_are_one_run_until_one_fails_which_ends_the_command(
    good: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That has one of two cases: without another launch it is stored, else the whole ones are."""
    launched = []

    def launch(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        launched.append(command)
        failed = len(launched) > good
        cases = [result("matmul"), result("one_pass")][: 1 if failed else 2]
        run_of(results=cases).store(Path(command[-1]))
        return subprocess.CompletedProcess(command, int(failed))

    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(scaling.subprocess, "run", launch)
    assert main(["scaling", *SMALL, f"--out={tmp_path}"]) == (0 if good == 5 else 2)
    assert len(launched) == min(good + 1, 5)  # five by default
    assert "--nproc-per-node=2" in launched[0]
    (run,) = ScalingRun.latest(tmp_path)
    assert (run.launches, len(run.results)) == ((good, 2) if good else (1, 1))
    assert {len(one.step_s) for one in run.results} == {3 * run.launches}


def test_a_slice_on_an_accelerator_is_as_long_as_calls_in_a_row_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By one call that is waited for it would be a third as long."""
    stream = install_stream(monkeypatch)
    stream.wait_s = 1e-5
    workers = Workers(0, 1, torch.device("cuda"), 1.0, None)

    def call() -> None:
        stream.launch(1e-6)

    repeats = measure._calls_of_a_slice(workers, call)
    seconds = measure._time_calls(workers, call, repeats)
    assert repeats * seconds == pytest.approx(measure.SLICE_S, rel=0.1)
