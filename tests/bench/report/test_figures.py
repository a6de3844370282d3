"""Figures: every case is drawn, nothing global is touched, any frame can be drawn."""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from reports import draw_in_style, render, words
from run_builder import FEW_KERNELS, KERNELS, build_run, fail, frame_of, rename

from bench.analysis.frame import facets
from bench.analysis.ranking import fastest
from bench.common.units import format_ratio
from bench.report import figures
from bench.report.figures import View, figure, kinds
from bench.report.figures.along_sizes import panels_of
from bench.report.style import GREY, label, styles
from bench.store.columns import STATUSES
from bench.store.schema import Run

RUN = Run.model_validate(build_run([]))


def drawn(kind: str, frame: pd.DataFrame, run: Run = RUN) -> Figure:
    figure = draw_in_style(kinds()[kind], View(frame, facets(frame)[0], run))
    assert figure is not None
    return figure


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return frame_of(build_run(["gradient"], kernels=FEW_KERNELS))


def test_panels_hold_the_sizes_with_the_most_points(frame: pd.DataFrame) -> None:
    panels = panels_of(frame)
    assert list(panels) == ["batch", "in_features", "out_features"]
    assert set(panels["batch"]["case"].str.partition("x")[2]) == {"6x3"}
    assert panels["batch"]["batch"].nunique() == 6
    assert set(panels["out_features"]["case"].str.rpartition("x")[0]) == {"1000x6"}
    assert list(panels_of(frame[frame["case"] == "33x6x3"])) == ["batch"]


def test_every_failure_is_shown_or_said(frame: pd.DataFrame) -> None:
    assert "1 more without a result off these axes" in words(drawn("time", frame))
    shown = words(drawn("time", frame[frame["in_features"] == 256]))
    assert "more without" not in shown
    assert "infeasible (at the top)" in shown


def test_time_figure_says_where_and_how(frame: pd.DataFrame) -> None:
    text = words(drawn("time", frame))
    for expected in (
        *("How long does one gradient (cpu, float64) take?", "amd-epyc-2-core, commit 0123456789"),
        *("median, q1–q3", "batch m (log)", "autograd (baseline)", "roofline bound"),
    ):
        assert expected in text


def test_memory_figure_marks_predictions_hollow(frame: pd.DataFrame) -> None:
    wide = frame[frame["in_features"] == 256]
    figure = drawn("memory", wide)
    assert "this machine's 23.3 GiB" in words(figure)
    lines = [line for axes in figure.axes for line in axes.get_lines()]
    hollow = [line for line in lines if line.get_markerfacecolor() == "white"]
    hollow = [line for line in hollow if np.size(line.get_xdata())]
    assert len(hollow) == 1
    unknown = RUN.model_copy(
        update={"machine": RUN.machine.model_copy(update={"memory_bytes": None})}
    )
    assert "this machine" not in words(drawn("memory", wide, unknown))


def marks(figure: Figure, hollow: bool) -> list[float]:
    """The values of the markers of a figure, filled or hollow."""
    lines = [line for axes in figure.axes for line in axes.get_lines()]
    return [
        float(value)
        for line in lines
        if line.get_marker() not in ("None", "") and line.get_color() != GREY
        and (line.get_markerfacecolor() == "white") is hollow
        for value in np.asarray(line.get_ydata(), dtype=float)
    ]  # fmt: skip


def test_time_figure_shows_cold_beside_hot_and_says_where_inputs_are(frame: pd.DataFrame) -> None:
    assert "inputs in cache where they fit" in words(drawn("time", frame))
    assert "inputs from memory" not in words(drawn("time", frame))
    ok = frame[frame["status"] == "ok"]
    cold = ok.assign(cold_s=ok["median_s"] * 3)
    figure = drawn("time", cold)
    assert "inputs from memory" in words(figure)
    assert marks(figure, hollow=True) == pytest.approx([3 * s for s in marks(figure, False)])
    some = drawn("time", cold.assign(cold_s=cold["cold_s"].where(cold["kernel"] == "matmul")))
    assert 0 < len(marks(some, hollow=True)) < len(marks(some, hollow=False))


@pytest.mark.parametrize(
    "changed", [{"peak_bytes": np.nan}, {"untracked_bytes": 2.0**20}, {"role": "peer"}], ids=str
)
def test_what_is_not_counted_is_no_point_of_a_memory_figure(
    changed: dict[str, object], frame: pd.DataFrame
) -> None:
    ok = frame[frame["status"] == "ok"].copy()
    mine = ok["kernel"] == "matmul"
    bytes_of = set(ok.loc[mine, "peak_bytes"]) - set(ok.loc[~mine, "peak_bytes"])
    assert bytes_of & set(marks(drawn("memory", ok), hollow=False))
    for name, value in changed.items():
        ok.loc[mine, name] = value
    figure = drawn("memory", ok)
    assert not bytes_of & set(marks(figure, hollow=False) + marks(figure, hollow=True))
    assert marks(figure, hollow=False)


def test_the_figure_of_the_fastest_says_which_and_how_much(frame: pd.DataFrame) -> None:
    figure = drawn("fastest", frame)
    shown = words(figure)
    assert shown.count("matmul\n") == frame.loc[frame["kernel"] == "matmul", "case"].nunique()
    for row in fastest(frame).itertuples():
        assert f"{row.kernel}\n{format_ratio(row.speedup)}" in shown
    near = frame_of(build_run(["gradient"], [(33, 6, 3)], kernels={"gradient": {
        **{name: KERNELS["gradient"][name] for name in ("autograd", "matmul")},
        **{name: (9.01e-6, 2.5e-11, "n * o + o") for name in ("nearly", "also")},
    }}))  # fmt: skip
    assert "≈" in words(drawn("fastest", near))


def test_looks_are_distinct_and_stable() -> None:
    names = {f"kernel_{place}": (1e-5, 1e-10, "m") for place in range(24)}
    laws = {"gradient": {"autograd": KERNELS["gradient"]["autograd"], **names}}
    run = build_run(["gradient"], [(33, 6, 3), (100, 6, 3)], kernels=laws)
    frame = frame_of(run)
    looks = styles(frame, "gradient")
    assert len(set(looks.values())) == len(looks) == 25
    assert looks["autograd"].colour == "black"
    assert styles(frame[frame["case"] == "33x6x3"], "gradient") == looks
    assert render(drawn("time", frame))


def every_figure_of(frame: pd.DataFrame) -> set[str]:
    """Draw each kind of figure that a frame has; return their names."""
    view = View(frame, facets(frame)[0], RUN)
    made = {
        name: draw_in_style(kind, view) for name, kind in kinds().items() if kind.when(view.rows)
    }
    return {name for name, figure in made.items() if figure is not None and render(figure)}


def test_one_row() -> None:
    frame = frame_of(build_run(["gradient"], [(33, 6, 3)])).iloc[:1]
    assert every_figure_of(frame) == {"fastest", "time", "memory", "error", "roofline"}


def test_no_ok_rows_of_any_status() -> None:
    run = build_run(["gradient"], [(33, 6, 3), (100, 6, 3)], kernels=FEW_KERNELS)
    for place, outcome in enumerate(run["outcomes"]):
        fail(run, outcome, STATUSES[1 + place % 6], None)
        outcome["predicted_peak_bytes"] = None
    assert every_figure_of(frame_of(run)) == {"time", "memory"}
    for kind in ("time", "memory"):
        assert drawn(kind, frame_of(run)).axes[0].get_yticks().size == 0


def test_hostile_names_are_drawn_as_text() -> None:
    run = build_run(["gradient"], [(33, 6, 3)], kernels=FEW_KERNELS)
    rename(run, "matmul", r"_$\frac{$ |<b>\n" + "\n\x1b[31m日本\u202e" + "x" * 900)
    rename(run, "kron_einsum", "$x^$")
    run["commit_info"]["id"] = "$\\bad"
    assert every_figure_of(frame_of(run)) >= {"time", "memory", "roofline", "error"}


def test_label() -> None:
    assert label("_a") == " _a"
    assert label("$x$") == r"\$x\$"
    assert label("é\n日") == "é\\n\\u65e5"


def test_nothing_global() -> None:
    frame = frame_of(build_run(["gradient"], [(33, 6, 3)], kernels=FEW_KERNELS))
    before = dict(mpl.rcParams)
    same = [render(drawn("fastest", frame)) for _ in range(2)]
    assert same[0] == same[1]
    assert dict(mpl.rcParams) == before
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


def test_every_module_declares_figures_under_names_of_their_own() -> None:
    modules = {path.stem for path in Path(figures.__file__).parent.glob("*.py")}
    declaring = {kind.draw.__module__.rpartition(".")[2] for kind in kinds().values()}
    assert declaring == modules - {"__init__", "history"}
    with pytest.raises(ValueError, match="'time' is taken"):
        figure("time", title="again")(lambda view: None)
