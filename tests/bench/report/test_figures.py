"""Figures: every case is drawn, nothing global is touched, any frame can be drawn."""

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from reports import render
from run_builder import FEW_KERNELS, KERNELS, build_run, fail, rename

from bench.analysis.frame import slices
from bench.analysis.jacobian import price_at_one_batch
from bench.report.figures.sizes import memory_figure, price_figure, time_figure
from bench.report.style import label, panels_of, styles
from bench.store.runs import runs_frame
from bench.store.schema import STATUSES, Run

MAKERS = (time_figure, memory_figure, price_figure)


def frame_of(run: dict[str, Any]) -> pd.DataFrame:
    return runs_frame({Path("a.json"): Run.model_validate(run)})


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return frame_of(build_run(["gradient"], kernels=FEW_KERNELS))


def words(figure: Figure) -> str:
    texts = [one for one in figure.findobj(match=Text) if isinstance(one, Text)]
    return "\n".join(text.get_text() for text in texts)


def test_panels_hold_the_sizes_with_the_most_points(frame: pd.DataFrame) -> None:
    panels = panels_of(frame)
    held = {
        panel.axis: set(panel.rows[["batch", "in_features", "out_features"]].itertuples(False))
        for panel in panels[:3]
    }
    assert {row[1:] for row in held["batch"]} == {(6, 3)}
    assert len(held["batch"]) == 6
    assert {(row[0], row[1]) for row in held["out_features"]} == {(1_000, 6)}
    assert len(panels) == 4
    assert panels[3].rows["status"].eq("infeasible").any()


def test_every_failure_is_shown_or_said(frame: pd.DataFrame) -> None:
    lonely = frame.copy()
    lonely.loc[lonely["case"] == "10000x256x3", "batch"] = 9_999
    part = slices(lonely)[0]
    assert "1 more without a number off these axes" in words(time_figure(lonely, part))
    assert "more without" not in words(time_figure(frame, part))


def test_time_figure_says_where_and_how(frame: pd.DataFrame) -> None:
    text = words(time_figure(frame, slices(frame)[0]))
    for expected in (
        *("How long does one gradient (cpu, float64) take?", "amd-epyc-2-core, commit 0123456789"),
        *("median, q1–q3", "batch m (log)", "autograd (torch.nn)", "infeasible (at the top)"),
    ):
        assert expected in text


def test_memory_figure_marks_predictions_hollow(frame: pd.DataFrame) -> None:
    part = slices(frame)[0]
    figure = memory_figure(frame, part, 25_000_000_000)
    assert "this machine's 23.3 GiB" in words(figure)
    lines = [line for axes in figure.axes for line in axes.get_lines()]
    hollow = [line for line in lines if line.get_markerfacecolor() == "white"]
    hollow = [line for line in hollow if np.size(line.get_xdata())]
    assert len(hollow) == 1
    assert "this machine" not in words(memory_figure(frame, part))


def test_price_figure_annotates_and_hatches(frame: pd.DataFrame) -> None:
    figure = price_figure(frame, slices(frame)[0])
    assert set(price_at_one_batch(frame)["batch"]) == {1_000}
    assert "7.84×" in words(figure)
    assert "not planned" not in words(figure)
    holed = frame[frame["case"] != "1000x16x10"]
    assert words(price_figure(holed, slices(holed)[0])).count("not planned") == 6
    wide = frame[frame["batch"] == 10_000]
    assert "infeasible" in words(price_figure(wide, slices(wide)[0]))


def test_looks_are_distinct_and_stable() -> None:
    names = {f"kernel_{place}": (1e-5, 1e-10, "m") for place in range(24)}
    laws = {"gradient": {"autograd": KERNELS["gradient"]["autograd"], **names}}
    run = build_run(["gradient"], [(33, 6, 3), (100, 6, 3)], kernels=laws)
    frame = frame_of(run)
    looks = styles(frame, "gradient")
    assert len(set(looks.values())) == len(looks) == 25
    assert looks["autograd"].colour == "black"
    assert styles(frame[frame["case"] == "33x6x3"], "gradient") == looks
    part = slices(frame)[0]
    assert render(time_figure(frame, part))


@pytest.mark.parametrize("make", MAKERS)
def test_one_row(make: Any) -> None:
    frame = frame_of(build_run(["gradient"], [(33, 6, 3)])).iloc[:1]
    assert render(make(frame, slices(frame)[0]))


@pytest.mark.parametrize("make", MAKERS)
def test_no_ok_rows_of_any_status(make: Any) -> None:
    run = build_run(["gradient"], [(33, 6, 3), (100, 6, 3)], kernels=FEW_KERNELS)
    for place, outcome in enumerate(run["outcomes"]):
        fail(run, outcome, STATUSES[1 + place % 6], None)
        outcome["predicted_peak_bytes"] = None
    frame = frame_of(run)
    assert render(make(frame, slices(frame)[0]))


def test_hostile_names_are_drawn_as_text() -> None:
    run = build_run(["gradient"], [(33, 6, 3)], kernels=FEW_KERNELS)
    rename(run, "matmul", r"_$\frac{$ |<b>\n" + "\n\x1b[31m日本\u202e" + "x" * 900)
    rename(run, "kron_einsum", "$x^$")
    run["commit_info"]["id"] = "$\\bad"
    frame = frame_of(run)
    for make in MAKERS:
        assert render(make(frame, slices(frame)[0]))


def test_label() -> None:
    assert label("_a") == " _a"
    assert label("$x$") == r"\$x\$"
    assert label("é\n日") == "é\\n\\u65e5"


def test_nothing_global() -> None:
    frame = frame_of(build_run(["gradient"], [(33, 6, 3)], kernels=FEW_KERNELS))
    before = dict(mpl.rcParams)
    same = [render(price_figure(frame, slices(frame)[0])) for _ in range(2)]
    assert same[0] == same[1]
    assert dict(mpl.rcParams) == before
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )
