"""Growth: the right line, times without drift, beside what the formulas say."""

import numpy as np
import pandas as pd
import pytest
from run_builder import build_run, frame_of

from bench.analysis.frame import FITTED, NO_REGIME
from bench.analysis.sizes import growth_exponents
from bench.report.tables import GROWTH, Column, render

LINES = (
    *((10**k, 16, 8) for k in range(2, 7)),
    *((1_000, 4**k, 8) for k in (1, 3, 4, 5)),
    *((1_000, 16, 4**k) for k in range(5)),
)
KERNELS = {
    "gradient": {
        "autograd": (1.2e-4, 4e-11, "2 * m * o"),
        "matmul": (1e-7, 2.5e-11, "n * o + o"),
        "kron_einsum": (1e-6, 4e-10, "m * n * o * o + n * o"),
        "late": (1e3, 1e-15, "m * o"),
    }
}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    frame = frame_of(build_run(["gradient"], LINES, kernels=KERNELS))
    return frame.assign(processes=5.0)


def table_of(frame: pd.DataFrame) -> pd.DataFrame:
    return growth_exponents(frame).set_index(["axis", "kernel"])


def test_exponents_stand_beside_the_formulas(frame: pd.DataFrame) -> None:
    table = table_of(frame)
    assert list(table.loc["batch"].index) == ["autograd", "kron_einsum", "late", "matmul"]
    assert list(table.index.get_level_values("axis").unique()) == [
        *("batch", "in_features", "out_features"),
    ]
    row = table.loc[("out_features", "kron_einsum")]
    assert (row["time"], row["memory"]) == (FITTED, FITTED)
    assert row["time_exponent"] == pytest.approx(2.0, abs=0.2)
    rows = table.loc[("batch", "kron_einsum")]
    assert rows["time_low"] <= 1.0 <= rows["time_high"]
    assert row["memory_exponent"] == pytest.approx(2.0, abs=0.02)
    assert row["memory_formula"] == pytest.approx(row["memory_exponent"])
    assert row["time_formula"] == pytest.approx(1.0)
    assert row["held"] == {"batch": 1_000, "in_features": 16}
    flat = table.loc[("batch", "matmul")]
    assert (flat["memory"], flat["memory_exponent"], flat["memory_formula"]) == (FITTED, 0, 0)
    late = table.loc[(slice(None), "late"), :]
    assert set(late["time"]) == {NO_REGIME}
    assert late["time_exponent"].isna().all()


def test_the_slope_is_that_of_the_three_largest_sizes(frame: pd.DataFrame) -> None:
    bent = frame[frame["in_features"].eq(16) & frame["out_features"].eq(8)].copy()
    bent = bent[bent["kernel"] == "autograd"].sort_values("batch")
    bent["median_s"] = [5.0, 5.0, 1.0, 10.0, 100.0]
    row = growth_exponents(bent).iloc[0]
    assert (row["first"], row["last"]) == (10_000, 1_000_000)
    assert row["time_exponent"] == pytest.approx(1.0)
    assert row["time_low"] == pytest.approx(row["time_high"]) == pytest.approx(1.0)
    bent["median_s"] = [5.0, 5.0, 1.0, 12.0, 100.0]
    row = growth_exponents(bent).iloc[0]
    assert row["time_low"] < row["time_exponent"] < row["time_high"]
    bent["median_s"] = [5.0, 5.0, 1.0, 1.1, 100.0]
    assert growth_exponents(bent)["time"].iloc[0] == NO_REGIME


def test_the_line_has_the_most_points_and_then_the_largest_sizes(frame: pd.DataFrame) -> None:
    more = frame[frame["in_features"].eq(16) & frame["out_features"].eq(8)]
    wider = [
        some.assign(case=some["case"].str.replace("x8", f"x{outputs}"))
        for some, outputs in ((more, 9), (more[2:], 99))
    ]
    row = growth_exponents(pd.concat([more, *wider])).iloc[0]
    assert row["held"] == {"in_features": 16, "out_features": 9}


def test_text_says_what_is_known(frame: pd.DataFrame) -> None:
    lost = frame.copy()
    lost.loc[lost["kernel"] == "late", "peak_bytes"] = 0.0
    text = render(growth_exponents(lost), [Column("axis", "axis"), *GROWTH])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    cells = {(line[0], line[1]): line[2:] for line in lines}
    assert cells["batch", "matmul"][:2] == ["m: 10,000–1,000,000", "n = 16, o = 8"]
    assert cells["batch", "matmul"][4:] == ["0.00", "0.00"]
    late = cells["batch", "late"]
    assert (late[2], late[4]) == ("no asymptotic regime", "–")
    kron = cells["out_features", "kron_einsum"]
    assert kron[0] == "o: 8–64"
    assert kron[2].startswith("2.")
    assert kron[5].startswith("2.0")


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_too_little_is_no_row(frame: pd.DataFrame, rows: int) -> None:
    assert growth_exponents(frame.iloc[:rows]).empty
    assert growth_exponents(frame.assign(status="wrong", median_s=np.nan)).empty
