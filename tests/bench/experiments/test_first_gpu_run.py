"""The first run on a GPU: steps that fail, hang or cannot be done; some on a fake device."""

import json
import sys
from pathlib import Path
from typing import Any

import fake_cuda
import pandas as pd
import pytest
from paths import ROOT
from run_builder import build_run

from bench.cli.main import main, make_parser
from bench.experiments import first_gpu_run
from bench.experiments.first_gpu_run import (
    FAILED,
    NARROW,
    PASSED,
    SKIPPED,
    STOPPED,
    Row,
    Step,
    judge_narrow,
    run_steps,
    steps,
)
from mlr import KERNELS

LONG_S = 600.0


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


FINE = Step("fine", python("print('one'); print('two')"), LONG_S)
BROKEN = Step("broken", python("import sys; print('why'); sys.exit(3)"), LONG_S)
HANGING = Step("hanging", python("import time; time.sleep(600)"), 0.5)
LACKING = Step("lacking", ("no-such-program",), LONG_S, "it is not there")


def done(todo: list[Step], tmp_path: Path, max_time_s: float = LONG_S) -> list[Row]:
    return list(run_steps(todo, tmp_path / "out", tmp_path, max_time_s, lambda _: None))


def test_no_step_stops_the_next(tmp_path: Path) -> None:
    rows = done([BROKEN, HANGING, LACKING, FINE], tmp_path)
    assert [row.outcome for row in rows] == [FAILED, FAILED, SKIPPED, PASSED]
    broken, hanging, lacking, fine = (row.remark for row in rows)
    assert broken == f"exit status 3: why; see {tmp_path / '01.log'}"
    assert hanging.startswith("took longer than 0.5 s")
    assert lacking == "it is not there"
    assert fine == "two"
    assert (tmp_path / "04.log").read_text().splitlines()[-2:] == ["one", "two"]


def test_no_step_goes_on_when_the_time_for_all_is_over(tmp_path: Path) -> None:
    stopped, skipped = done([HANGING._replace(limit_s=LONG_S), FINE], tmp_path, max_time_s=0.5)
    assert (stopped.outcome, skipped.outcome) == (STOPPED, SKIPPED)
    assert skipped.remark == "no time was left"


def result(**changes: Any) -> dict[str, Any]:
    return {
        "kernel": NARROW, "operation": "step", "baseline": "torch_nn", "dtype": "float32",
        "batch": 10_000_000, "status": "ok", "reason": None, "speedup": 2.0, "efficiency": 0.8,
        "bound": "memory", "median_s": 1e-4,
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, PASSED),
        ({"efficiency": 0.6}, FAILED),
        ({"efficiency": 0.6, "bound": "cache"}, PASSED),
        ({"batch": 10_000, "bound": "dispatch", "speedup": 5.0}, PASSED),
        ({"batch": 10_000, "bound": "dispatch", "speedup": 4.9}, FAILED),
        ({"batch": 10_000, "bound": "dispatch", "operation": "gradient"}, PASSED),
        ({"batch": 100_000, "bound": "dispatch"}, PASSED),
        ({"status": "crashed", "reason": "for it"}, FAILED),
    ],
)
def test_a_narrow_kernel_is_held_to_bandwidth_and_speedup(
    changes: dict[str, Any], outcome: str
) -> None:
    rows = list(judge_narrow(pd.DataFrame([result(kernel="torch_nn"), result(**changes)])))
    assert [row.outcome for row in rows] == [outcome]


def storing(path: Path) -> tuple[str, ...]:
    text = json.dumps(build_run(["gradient"], [(7, 3, 2)]))
    code = "import pathlib, sys; path = pathlib.Path(sys.argv[1]); path.parent.mkdir(parents=True)"
    return *python(f"{code}; path.write_text(sys.argv[2])"), str(path), text


def test_a_run_that_lacks_what_is_wanted_of_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "out" / "runs" / "here" / "one.json"
    step = Step("storing", storing(path), LONG_S, judge=judge_narrow)
    assert [row.outcome for row in done([step], tmp_path)] == [PASSED, FAILED]


def first_gpu(folder: Path) -> int:
    return main(["experiment", "first-gpu", f"--out={folder / 'out'}", f"--logs={folder}"])


@pytest.mark.parametrize("broken", [False, True])
def test_what_passed_and_what_to_commit_is_said(
    broken: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "out" / "runs" / "here" / "one.json"
    todo = [Step("storing", storing(path), LONG_S), *([BROKEN] if broken else [])]
    monkeypatch.setattr(first_gpu_run, "unavailable_reason", lambda device: None)
    monkeypatch.setattr(first_gpu_run, "steps", lambda out, logs: todo)
    assert first_gpu(tmp_path) == (1 if broken else 0)
    said = capsys.readouterr().out
    assert f"to be committed: {path}" in said
    for text in (said, (tmp_path / "summary.md").read_text()):
        assert "storing" in text
        assert ("1 failed, 1 passed" if broken else "1 passed") in text


def test_without_a_gpu_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = "no CUDA device on this machine"
    monkeypatch.setattr(first_gpu_run, "unavailable_reason", lambda device: reason)
    assert first_gpu(tmp_path) == 2
    assert capsys.readouterr().err == (
        f"error: first-gpu needs a GPU; {reason}; run it on a machine that has one\n"
    )
    assert not list(tmp_path.iterdir())


def test_every_step_is_a_command_that_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 1)
    every = steps(tmp_path / "out", tmp_path)
    assert len({step.name for step in every}) == len(every)
    own = [step.command[3:] for step in every if step.command[1:3] == ("-m", "bench")]
    assert {command[0] for command in own} == {"run", "machine", "gate"}
    for command in own:
        given = make_parser(command[0]).parse_args(command)
        assert set((getattr(given, "kernel", None) or NARROW).split(",")) <= set(KERNELS)
    (tests,) = (step.command for step in every if step.name == "tests marked cuda")
    files = [Path(word) for word in tests if word.endswith(".py")]
    assert ROOT / "tests" / "mlr" / "test_gradients.py" in files
    for path in files:
        assert "playwright" not in path.read_text()


def on_fake_device(folder: Path, *names: str) -> tuple[int, dict[str, str]]:
    """Do some steps in a process that has the fake device; return the outcomes by step."""
    places = f"--out={folder / 'out'}", f"--logs={folder}"
    told = ("experiment", "first-gpu", *places, "--max-time=1h", "--step", *names)
    ended = fake_cuda.run_module("bench", *told, triton=True)
    assert (folder / "summary.md").exists(), ended.stderr
    lines = [line.split("|") for line in (folder / "summary.md").read_text().splitlines()]
    return ended.returncode, {cells[1].strip(): cells[2].strip() for cells in lines if cells[2:]}


@pytest.mark.slow
def test_the_fake_device_is_described(tmp_path: Path) -> None:
    code, outcomes = on_fake_device(tmp_path, "machine")
    log = (tmp_path / "01.log").read_text()
    assert (code, outcomes["machine"]) == (0, PASSED), log
    assert fake_cuda.PROPERTIES.name in log
    assert "cuda at best, measured" in log


@pytest.mark.slow
def test_the_steps_that_measure_do_so_on_the_fake_device(tmp_path: Path) -> None:
    """None but its results fail: on it no kernel is faster than another for any good reason."""
    _, outcomes = on_fake_device(tmp_path, "smoke", "compute-sanitizer")
    assert (outcomes["smoke run"], outcomes["compute-sanitizer"]) == (PASSED, SKIPPED)


@pytest.mark.slow
def test_the_narrow_run_is_measured_and_judged_on_the_fake_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in fake_cuda.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 1)
    (narrow,) = (step for step in steps(tmp_path / "out", tmp_path) if step.judge is not None)
    short = {"--batch": "--batch=33", "--processes": "--processes=1"}
    command = [short.get(word.partition("=")[0], word) for word in narrow.command]
    whole, *sizes = done([narrow._replace(command=command)], tmp_path)
    assert whole.outcome == PASSED, whole.remark
    assert {"step, float32, 33 rows", "step, float64, 33 rows"} <= {row.step for row in sizes}
