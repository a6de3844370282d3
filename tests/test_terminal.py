"""What a run shows: on a terminal of 80 columns, and on none."""

import pandas as pd
import pytest
from rich.console import Console
from run_builder import build_run

from bench import terminal
from bench.followed import Progress
from bench.grid import Axes, planned
from bench.schema import Run
from bench.store import runs_frame
from bench.trial import foretell


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every console be a terminal of 80 columns."""

    def console(**given: bool) -> Console:
        return Console(**given, force_terminal=True, width=80, color_system=None)

    monkeypatch.setattr(terminal, "Console", console)


@pytest.fixture
def frame() -> pd.DataFrame:
    return runs_frame({"a.json": Run.model_validate(build_run(passes=3))})


def test_the_table_at_the_end_fits_and_has_every_case(
    screen: None, frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.print_fastest(frame)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == 1 + len(frame[frame["status"] == "ok"].drop_duplicates(["stage", "case"]))
    assert any("1,000,000 × 6 → 3" in line and "fused_addmm" in line for line in lines)


def test_no_table_where_no_terminal_is(
    frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.print_fastest(frame)
    assert capsys.readouterr().out == ""


def test_progress_fits_and_shows_the_latest(
    screen: None, capsys: pytest.CaptureFixture[str]
) -> None:
    latest = "a_kernel_with_a_rather_long_name[red]-cpu-float64-1000000x256x64 123×"
    with terminal.following(10) as show:
        show(Progress(10, 3, number=1, wall_s=30.0, left_s=3_700.0, latest=latest))
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= 80
    (line,) = {line for line in lines if "3/10" in line}
    assert "62 min 0 s left" in line or "61 min 40 s left" in line
    assert "a_kernel_with_a_" in line
    assert line.rstrip().endswith("123×")


def test_two_lines_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.following(10) as show:
        show(Progress(10, 10, statuses={"ok": 9, "oom": 1}, passes=5, wall_s=70.0, overhead=0.1))
    assert capsys.readouterr().err == "10 cases: 9 ok, 1 oom; 5 passes\n1 min 10 s, overhead 10%\n"


def test_a_plan_says_how_long_it_would_take(capsys: pytest.CaptureFixture[str]) -> None:
    axes = Axes(grid="smoke", device=("cpu",), kernel=("matmul", "autograd"), stage=("gradient",))
    told = [(entry, foretell(entry, None, 1.0)) for entry in planned(axes)]
    terminal.print_plan(told, {}, passes=5, pace_s=2.0)
    said = capsys.readouterr().out
    assert f"about {len(told) * 12 // 60} min" in said  # six times two seconds a case
    terminal.print_plan(told, {}, passes=5, pace_s=None)
    assert "about" not in capsys.readouterr().out
