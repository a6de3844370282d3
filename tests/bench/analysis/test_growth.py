"""Scaling of a frame: the right line, times without drift, beside what the formulas say."""

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_builder import build_run

from bench.analysis import growth as module
from bench.analysis.growth import display_scaling, scaling, timed
from bench.store.runs import runs_frame
from bench.store.schema import Run

LINES = (
    *((10**k, 16, 8) for k in range(2, 7)),
    *((1_000, 4**k, 8) for k in (1, 3, 4, 5)),
    *((1_000, 16, 4**k) for k in range(5)),
)
KERNELS = {
    "gradient": {
        "autograd": (1e-6, 4e-11, "2 * m * o"),
        "matmul": (1e-7, 2.5e-11, "n * o + o"),
        "kron_einsum": (1e-6, 4e-10, "m * n * o * o + n * o"),
        "late": (1e3, 1e-15, "m * o"),
    }
}


def frame_of(run: dict[str, Any]) -> pd.DataFrame:
    return runs_frame({Path("a.json"): Run.model_validate(run)})


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    frame = frame_of(build_run(["gradient"], LINES, kernels=KERNELS))
    return frame.assign(passes=5.0)


def drifting(
    exponents: dict[str, float], sizes: int, drift: float, rng: np.random.Generator
) -> pd.DataFrame:
    """Cases of 10^k × 6 → 3, each at a moment of its own; only speedups know nothing of that."""
    rows = []
    for batch in 10 ** np.arange(2, 2 + sizes):
        base = 1e-7 * batch ** exponents["autograd"]
        for kernel, power in exponents.items():
            seconds = 1e-7 * float(batch) ** power
            moment = np.exp(drift * rng.standard_normal())
            pair = np.exp(0.02 * rng.standard_normal()) if kernel != "autograd" else 1.0
            speedup = base / seconds * pair
            median = seconds * moment
            rows.append(
                {
                    **{"machine": "a", "run": "a", "stage": "gradient", "device": "cpu"},
                    **{"dtype": "float64", "kernel": kernel, "baseline": "autograd"},
                    **{"batch": batch, "in_features": 6, "out_features": 3, "status": "ok"},
                    **{"median_s": median, "q1_s": 0.98 * median, "q3_s": 1.02 * median},
                    **{"speedup": speedup, "passes": 5.0, "peak_bytes": 8.0 * batch},
                    **{"speedup_low": 0.96 * speedup, "speedup_high": 1.04 * speedup},
                    **{"flops": 36.0 * batch, "predicted_peak_bytes": 8.0 * batch},
                }
            )
    return pd.DataFrame(rows)


def test_examples() -> None:
    assert doctest.testmod(module).failed == 0


def test_exponents_stand_beside_the_formulas(frame: pd.DataFrame) -> None:
    table = scaling(frame).set_index(["axis", "kernel"])
    assert list(table.loc["batch"].index) == ["autograd", "kron_einsum", "late", "matmul"]
    assert list(table.index.get_level_values("axis").unique()) == [
        *("batch", "in_features", "out_features"),
    ]
    row = table.loc[("out_features", "kron_einsum")]
    assert (row["time"], row["memory"]) == ("settled", "settled")
    assert row["time_low"] <= 2.0 <= row["time_high"]
    assert row["memory_exponent"] == pytest.approx(2.0, abs=0.02)
    assert row["memory_formula"] == pytest.approx(row["memory_exponent"])
    assert row["time_formula"] == pytest.approx(1.0)
    assert (row["batch"], row["in_features"]) == (1_000, 16)
    assert pd.isna(row["out_features"])
    flat = table.loc[("batch", "matmul")]
    assert (flat["memory"], flat["memory_exponent"]) == ("settled", 0)
    assert flat["memory_formula"] == pytest.approx(0)
    assert set(table.loc[(slice(None), "late"), "time"]) == {"not settled"}
    assert table.loc[(slice(None), "late"), "time_exponent"].isna().all()


def test_the_line_has_the_most_points_and_then_the_largest_sizes(frame: pd.DataFrame) -> None:
    more = frame[frame["in_features"].eq(16) & frame["out_features"].eq(8)]
    both = pd.concat([more, more.assign(out_features=9), more[2:].assign(out_features=99)])
    line = scaling(both).iloc[0]
    assert (line["out_features"], line["line_points"]) == (9, 5)


def test_text_says_what_is_known(frame: pd.DataFrame) -> None:
    lost = frame.copy()
    lost.loc[lost["kernel"] == "late", "peak_bytes"] = 0.0
    text = display_scaling(scaling(lost)).set_index(["along", "kernel"])
    assert text.loc[("m: 100–1,000,000", "matmul"), "memory grows as"] == "0.00"
    late = text.loc[("m: 100–1,000,000", "late")]
    assert (late["time grows as"], late["memory grows as"]) == ("not settled", "–")
    assert set(text.loc["m: 100–1,000,000", "at"]) == {"n = 16, o = 8"}
    kron = text.loc[("o: 1–64", "kron_einsum")]
    assert kron["time grows as"].startswith("2.0")
    assert kron["predicted"].startswith("2.0")


@pytest.mark.parametrize("sizes", [3, 5])
@pytest.mark.parametrize("others", [1, 3, 8])
def test_drift_between_cases_is_no_growth(others: int, sizes: int) -> None:
    """With a drift of 35 % from case to case, nine intervals in ten still hold the truth."""
    rng = np.random.default_rng(4)
    exponents = {"autograd": 1.0} | {f"kernel_{place}": 1.0 for place in range(others)}
    exponents["kernel_0"] = 1.5
    given = missed = 0
    for _ in range(30):
        table = scaling(drifting(exponents, sizes, 0.35, rng)).dropna(subset=["time_exponent"])
        truth = table["kernel"].map(exponents).astype(float)
        given += len(table)
        missed += int((~truth.between(table["time_low"], table["time_high"])).sum())
    assert missed <= 0.1 * max(given, 30)


def test_the_kernels_together_know_the_time_better_than_one() -> None:
    rng = np.random.default_rng(5)
    exponents = {"autograd": 1.0} | {f"kernel_{place}": 1.0 for place in range(8)}
    apart = together = 0.0
    for _ in range(30):
        rows = timed(drifting(exponents, 4, 0.35, rng))
        for name in ("median_s", "time_s"):
            # The level is anybody's guess; what counts for a slope is how it varies.
            off = np.log(rows[name] / rows["batch"])
            off -= off.groupby(rows["kernel"]).transform("mean")
            apart, together = (
                (apart + off.var(), together)
                if name == "median_s"
                else (apart, together + off.var())
            )
    assert together < apart / 3


def test_without_speedups_the_own_times_are_left(frame: pd.DataFrame) -> None:
    alone = frame.assign(speedup=np.nan, speedup_low=np.nan, speedup_high=np.nan)
    rows = timed(alone)
    pd.testing.assert_series_equal(rows["time_s"], rows["median_s"], check_names=False)
    assert set(rows["freedom"]) == {4.0}
    single = timed(alone.assign(passes=np.nan, q1_s=alone["median_s"], q3_s=alone["median_s"]))
    assert set(single["freedom"]) == {0.0}
    assert (single["noise"] > 0.04).all()


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_too_little_is_no_row(frame: pd.DataFrame, rows: int) -> None:
    assert display_scaling(scaling(frame.iloc[:rows])).empty
    assert scaling(frame.assign(status="wrong", median_s=np.nan)).empty


def test_a_kernels_own_excess_is_no_growth_where_it_is_missing() -> None:
    """Two of four kernels take three times as long alone as paired; the largest size lacks them."""
    exponents = dict.fromkeys(("autograd", "one", "slow", "slower"), 1.0)
    frame = drifting(exponents, 4, 0.0, np.random.default_rng(6))
    frame.loc[frame["kernel"].isin(["slow", "slower"]), "median_s"] *= 3
    frame = frame[~(frame["kernel"].isin(["slow", "slower"]) & frame["batch"].eq(100_000))]
    level = timed(frame).query("kernel == 'autograd'").eval("time_s / batch")
    assert len(level) == 4
    assert level.max() / level.min() < 1.1
