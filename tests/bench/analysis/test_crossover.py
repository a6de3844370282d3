"""Crossovers: where one kernel really becomes faster than another, and nowhere else."""

import numpy as np
import pandas as pd
import pytest
from run_builder import frame_of_rows

from bench.analysis.sizes import crossovers
from bench.report.tables import CROSSOVERS, render
from bench.store.columns import LETTERS

SIZES = (10, 100, 1_000, 10_000)


def frame_of(
    speedups: dict[str, tuple[float, ...]], spread: float | None = 0.02, axis: str = "batch"
) -> pd.DataFrame:
    """One line of cases with the speedups that each kernel has along it; 0 is a failure."""
    rows = []
    for kernel, line in speedups.items():
        for size, speedup in zip(SIZES, line, strict=False):
            row = {"kernel": kernel, axis: size, "role": "auto" if kernel == "auto" else "kernel"}
            row |= {"speedup": speedup} if speedup else {"status": "oom"}
            if spread is not None and kernel != "base" and speedup:
                width = 1 + spread
                row |= {"speedup_low": speedup / width, "speedup_high": speedup * width}
            rows.append(row)
    return frame_of_rows(rows)


@pytest.mark.parametrize("axis", ["batch", "in_features", "out_features"])
def test_a_crossover_lies_on_the_line_between_two_sizes(axis: str) -> None:
    table = crossovers(frame_of({"a": (8, 4, 2, 1), "b": (1, 2, 4, 8)}, axis=axis))
    assert len(table) == 1
    row = table.iloc[0]
    assert (row["faster_below"], row["faster_above"], row["axis"]) == ("a", "b", axis)
    assert (row["last_size"], row["first_size"]) == (100, 1_000)
    assert row["crossover"] == pytest.approx(10**2.5)
    assert list(row["held"]) == [name for name in LETTERS if name != axis]
    letter = LETTERS[axis]
    text = render(table, CROSSOVERS)
    assert f"{letter} ≈ 320 (between 100 and 1,000)" in text
    assert f"{letter} =" not in text


def test_auto_has_no_crossover() -> None:
    """It is one of the others."""
    assert crossovers(frame_of({"auto": (8, 4, 2, 1), "b": (1, 2, 4, 8)})).empty


def test_the_lead_at_each_end_decides_where_between() -> None:
    row = crossovers(frame_of({"a": (2, 2, 1, 1), "b": (1, 1, 8, 8)})).iloc[0]
    assert row["crossover"] == pytest.approx(10 ** (2 + 0.25))


@pytest.mark.parametrize("spread", [0.02, None])
def test_what_the_noise_may_be_is_no_crossing(spread: float | None) -> None:
    noise = {"a": (1.02, 1.0, 1.03, 1.0), "b": (1.0, 1.02, 1.0, 1.03)}
    assert crossovers(frame_of(noise, spread)).empty
    assert crossovers(frame_of({"a": (2, 2, 1.0, 1.0), "b": (1, 1, 1.01, 1.01)}, spread)).empty


def test_sizes_that_tell_nothing_lie_in_between() -> None:
    table = crossovers(frame_of({"a": (2, 1.01, 1.0, 1), "b": (1, 1.0, 1.01, 2)}))
    assert list(table[["last_size", "first_size"]].iloc[0]) == [10, 10_000]
    assert len(table) == 1


def test_only_crossings_with_the_fastest() -> None:
    slow = {"a": (8, 4, 2, 1), "b": (1, 2, 4, 8)}
    assert crossovers(frame_of(slow | {"quick": (100, 100, 100, 100)})).empty
    table = crossovers(frame_of(slow | {"quick": (100, 100, 100, 3)}))
    assert set(zip(table["faster_below"], table["faster_above"], strict=True)) == {("quick", "b")}


def test_the_baseline_and_failures() -> None:
    table = crossovers(frame_of({"base": (1, 1, 1, 1), "a": (0.5, 0.0, 2, 3)}))
    names = ["faster_below", "faster_above", "last_size", "first_size"]
    assert list(table.loc[0, names]) == ["base", "a", 10, 1_000]
    assert len(table) == 1


def test_two_places_are_two_crossovers() -> None:
    table = crossovers(frame_of({"a": (2, 1, 2, 2), "b": (1, 2, 1, 1)}))
    assert list(table["faster_below"]) == ["a", "b"]
    assert list(table["last_size"]) == [10, 100]


def test_nothing_is_pooled() -> None:
    rows = frame_of({"a": (2, 2), "b": (1, 1)})
    other = frame_of({"a": (1, 1, 1, 1), "b": (2, 2, 2, 2)}).query("batch > 100")
    elsewhere = other["case"].str.replace("x6x", "x9x")
    for name, value in (("machine", "z"), ("run", "z"), ("dtype", "z"), ("case", elsewhere)):
        assert crossovers(pd.concat([rows, other.assign(**{name: value})])).empty
    assert len(crossovers(pd.concat([rows, other]))) == 1


def test_too_little_is_no_row() -> None:
    rows = frame_of({"a": (2, 1), "b": (1, 2)})
    for some in (rows.iloc[:0], rows.iloc[:2], rows.assign(speedup=np.nan)):
        assert crossovers(some).empty
