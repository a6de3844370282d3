"""What a run shows: on a terminal of 80 columns, and on none."""

import re
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from run_builder import build_run, fail, frame_of

from bench.cli import console as terminal
from bench.cli import results
from bench.cli.commands import plan as plan_command
from bench.common import progress
from bench.plan.benchmark import planned
from bench.plan.grid import Processes
from bench.plan.selection import Selection
from bench.run.journal import RunProgress


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every console be a terminal of 80 columns."""

    def console(stderr: bool = False, **_: object) -> Console:
        return Console(stderr=stderr, force_terminal=True, width=80, color_system=None)

    monkeypatch.delenv("CI", raising=False)
    for module in (progress, results):
        monkeypatch.setattr(module, "Console", console)


@pytest.fixture
def frame() -> pd.DataFrame:
    return frame_of(build_run(processes=3))


def test_every_benchmark_has_a_line_that_fits(
    screen: None, frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    results.print_results(frame, Processes(3, 3))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    shown = [line for line in lines if line.startswith(" ")]
    assert len(shown) == len(frame)
    assert (
        sum("baseline" in line for line in shown)
        == frame[(frame["status"] == "ok") & (frame["kernel"] == frame["baseline"])].shape[0]
    )
    assert {"step, cpu, float64, 1 thread", "fit, cpu, float64, 1 thread"} <= set(lines)
    assert "Time: the median of 3 processes, inputs in cache" in "\n".join(lines)


def test_what_has_no_time_has_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal too; a reason that several share is said once."""
    run = build_run(processes=3)
    slow, wrong = (one for one in run["outcomes"] if one["kernel"] == "matmul"), "off by 3e-5"
    for outcome in list(slow)[:2]:
        fail(run, outcome, "wrong", wrong)
    results.print_results(frame_of(run), Processes(3, 3))
    said = capsys.readouterr().out
    assert said.count(wrong) == 1
    (number,) = re.findall(rf"^\[(\d+)\] {wrong}$", said, re.MULTILINE)
    lines = re.findall(rf"^ matmul +– +– +– +– +wrong +\[{number}\]", said, re.MULTILINE)
    assert len(lines) == 2


def test_progress_says_how_long_the_rest_takes(
    screen: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal.following(10, "what is planned") as show:
        show(RunProgress(10, 3, process=1, wall_s=30.0, left_s=3_700.0))
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= 80
    (line,) = {line for line in lines if "3 of 10" in line}
    assert line.rstrip().endswith("1%, about 61 min 40 s left: 3 of 10, process 1")
    with terminal.following(10, "what is planned") as show:
        show(RunProgress(10, 3, process=1, wall_s=30.0, left_s=60.0, is_open=True))
    assert ", at least 1 min 0 s left: 3 of 10" in capsys.readouterr().err


def test_a_line_every_tenth_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.following(100, "what is planned") as show:
        for done in range(101):
            left = 100.0 - done
            show(RunProgress(100, done, process=done // 50, wall_s=float(done), left_s=left,
                          statuses={"ok": 9, "oom": 1}))  # fmt: skip
    plan, first, *tenths, counts, cost = capsys.readouterr().err.splitlines()
    assert plan == "what is planned"
    assert first == "Results and memory are checked first, then times are taken."
    assert [line[:4] for line in tenths] == [f"{10 * tenth:3d}%" for tenth in range(1, 10)]
    assert tenths[1] == " 20%, about 1 min 20 s left: 20 of 100, checking results and memory"
    assert tenths[6] == " 70%, about 30 s left: 70 of 100, process 1"
    assert counts == "10 benchmarks: 9 ok, 1 oom"
    assert cost == "1 min 40 s"


def test_in_ci_a_terminal_gets_lines_and_nothing_that_moves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # by which a console takes itself for a terminal
    monkeypatch.setenv("CI", "true")
    with terminal.following(1_000, "what is planned") as show:
        for done in range(1_001):
            show(RunProgress(1_000, done, process=1, wall_s=float(done), left_s=1_000.0 - done))
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert len(said.splitlines()) == 13


def test_a_plan_says_how_long_it_would_take(capsys: pytest.CaptureFixture[str]) -> None:
    axes = Selection(
        grid="smoke", device=("cpu",), kernel=("matmul", "autograd"), operation=("gradient",)
    )
    told = plan_command.predict_all(planned(axes), {}, 1.0)
    plan_command.print_plan(told, Processes(5, 5), (2.0, Path("runs/here/a.json")))
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith(f"{len(told)} benchmarks: {len(told)} to run each in 5 processes of ")
    assert f"about {len(told) * 12 // 60} min" in said  # six times two seconds a case
    assert "in a process of the run a on here " in said
    plan_command.print_plan(told, Processes(2, 5), (10.0, Path("runs/here/a.json")))
    said = " ".join(capsys.readouterr().out.split())
    assert "each in 2 to 5 processes of " in said
    assert f"about {len(told) * 30 // 60} min" in said
    assert f" to {len(told)} min 0 s, at" in said
    plan_command.print_plan(told, Processes(5, 5), None)
    assert "about" not in capsys.readouterr().out
