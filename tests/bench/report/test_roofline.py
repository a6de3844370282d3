"""Roofline: the ceilings that were measured, and every case under them."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from reports import draw_in_style, render, words
from run_builder import FEW_KERNELS, build_run, frame_of

from bench.analysis.frame import facets
from bench.report.figures import View, kinds
from bench.report.figures.roofline import points, roofs
from bench.store.schema import Ceilings, Run

CEILINGS = Ceilings(
    dispatch_s=1e-6,
    bandwidth_bytes_per_s=[[1e9, 2e10], [1e4, 3e10], [1e6, 8e10]],
    flops_per_s={"float64": 8e10, "float32": 1.6e11},
)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return frame_of(build_run(["gradient"], kernels=FEW_KERNELS))


def roofline_figure(frame: pd.DataFrame, ceilings: Ceilings) -> Figure | None:
    run = build_run([])
    run["machine"]["ceilings"] = {"cpu": ceilings.model_dump()}
    return draw_in_style(
        kinds()["roofline"], View(frame, facets(frame)[0], Run.model_validate(run))
    )


def drawn(frame: pd.DataFrame, ceilings: Ceilings) -> Figure:
    figure = roofline_figure(frame, ceilings)
    assert figure is not None
    return figure


def lines(figure: Figure) -> list[Line2D]:
    return [line for line in figure.axes[0].get_lines() if line.get_linestyle() != "None"]


def test_roofs_are_the_largest_working_set_and_the_best() -> None:
    assert roofs(CEILINGS) == {1e9: 2e10, 1e6: 8e10}
    assert roofs(Ceilings(bandwidth_bytes_per_s=[[1e4, 2e10], [1e9, 2e10]])) == {1e9: 2e10}
    assert roofs(Ceilings()) == {}


def test_the_roofs_rise_to_the_peak_of_the_dtype(frame: pd.DataFrame) -> None:
    figure = drawn(frame, CEILINGS)
    large, best, peak = lines(figure)
    for line, rate in ((large, 2e10), (best, 8e10)):
        x, y = (np.asarray(values, dtype=float) for values in line.get_data())
        assert y / x == pytest.approx(rate)
        assert y[-1] == pytest.approx(8e10)
    assert set(np.asarray(peak.get_ydata(), dtype=float)) == {8e10}
    assert figure.axes[0].get_xlim()[0] <= 1 / 4
    for said in ("20.0 GB/s over 954 MiB", "80.0 GB/s over 977 KiB", "80.0 GFLOP/s", "commit 0123"):
        assert said in words(figure)


def test_every_measured_case_is_a_point(frame: pd.DataFrame) -> None:
    ok = frame[frame["status"] == "ok"]
    table = points(frame)
    assert len(table) == len(ok) < len(frame)
    assert table["rate"].to_numpy() == pytest.approx((ok["flops"] / ok["median_s"]).to_numpy())
    figure = drawn(frame, CEILINGS)
    marks = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "None"]
    assert sum(np.size(line.get_xdata()) for line in marks) == len(ok)
    x, y = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert table["intensity"].between(*x).all()
    assert table["rate"].between(*y).all()


def test_hollow_where_dispatch_is_the_bound(frame: pd.DataFrame) -> None:
    table = points(frame)
    assert (table["by_dispatch"] == (table["roofline_s"] == 1e-6)).all()
    assert 0 < table["by_dispatch"].sum() < len(table)
    assert "hollow" in words(drawn(frame, CEILINGS))
    without = frame.assign(bound="compute")
    assert "hollow" not in words(drawn(without, CEILINGS))


def test_no_ceiling_or_no_case_is_no_figure(frame: pd.DataFrame) -> None:
    other = Ceilings(dispatch_s=1e-6, flops_per_s={"float32": 1e11})
    assert roofline_figure(frame, Ceilings()) is None
    assert roofline_figure(frame, other) is None
    for lost in ({"flops": np.nan}, {"bytes_moved": 0.0}, {"status": "wrong"}):
        assert roofline_figure(frame.assign(**lost), CEILINGS) is None


def test_one_ceiling_is_enough(frame: pd.DataFrame) -> None:
    only_peak = Ceilings(flops_per_s={"float64": 8e10})
    only_bandwidth = Ceilings(bandwidth_bytes_per_s=[[1e9, 2e10]])
    assert len(lines(drawn(frame, only_peak))) == len(lines(drawn(frame, only_bandwidth))) == 1
    for ceilings in (CEILINGS, only_peak, only_bandwidth):
        assert render(drawn(frame.iloc[:1], ceilings))
