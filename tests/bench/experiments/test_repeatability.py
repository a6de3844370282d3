"""Runs held against each other: the figures of the verdict, from runs whose spread is known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.experiments.repeatability.analysis import (
    TWICE,
    agreement_promise,
    coverage,
    promises,
    spread,
)
from bench.experiments.repeatability.experiment import Repeated, write_proof


def frame(shift: float, medians: float = 1.0, low: float = 0.98, high: float = 1.02) -> Any:
    rows = []
    for kernel, speedup in (("autograd", 1.0), ("matmul", 2.0 * math.exp(shift)), (TWICE, 0.5)):
        apart = kernel != "autograd"
        rows.append(
            {
                **{"operation": "gradient", "device": "cpu", "dtype": "float64", "case": "33x6x3"},
                **{"kernel": kernel, "baseline": "autograd", "status": "ok"},
                "median_s": 1e-4 / speedup * (medians if apart else 1.0),
                "speedup": speedup,
                "speedup_low": speedup * low if apart else np.nan,
                "speedup_high": speedup * high if apart else np.nan,
            }
        )
    return pd.DataFrame(rows)


def test_the_spread_over_runs_is_that_of_the_log_speedups() -> None:
    shifts = [0.0, 0.02, -0.02, 0.04]
    table = spread([frame(s, math.exp(5 * s)) for s in shifts]).set_index("kernel")
    assert table.loc["matmul", "sd_paired"] == pytest.approx(np.std(shifts, ddof=1))
    assert table.loc["matmul", "sd_stock"] == pytest.approx(
        np.std([-4 * s for s in shifts], ddof=1)
    )
    assert table.loc["matmul", "inside"] == 2
    assert table.loc[TWICE, "sd_paired"] == pytest.approx(0, abs=1e-12)
    assert "autograd" not in table.index


def test_intervals_that_miss_the_known_ratio_are_counted() -> None:
    frames = [frame(0.0), frame(0.0, low=1.01, high=1.05)]
    assert list(coverage(frames)["holds"]) == [True, False]


def test_a_promise_that_is_not_kept_is_said() -> None:
    steady = [frame(shift) for shift in (0.0, 0.001, -0.001)]
    assert all(one.kept for one in promises(spread(steady), coverage(steady)))
    wild = [frame(shift, low=1.01) for shift in (0.0, 0.5, -0.5)]
    assert not any(one.kept for one in promises(spread(wild), coverage(wild))[:2])
    assert not promises(spread(wild), coverage(wild))[3].kept


def test_times_apart_from_torchs_timer_are_said_with_the_worst_case() -> None:
    rows = [
        {"kernel": "matmul", "case": "a", "ratio": 1.02},
        {"kernel": "einsum", "case": "b", "ratio": 0.95},
    ]
    near = agreement_promise(pd.DataFrame(rows))
    assert near.kept
    assert near.measured.endswith("over 2 cases, worst -5.0% (einsum, b)")
    assert not agreement_promise(pd.DataFrame(rows[1:])).kept


def test_what_was_shown_is_one_file_written_whole(tmp_path: Path) -> None:
    frames = [frame(0.0), frame(0.01)]
    found = Repeated(spread(frames), coverage(frames), "here", {"threads": 1, "seed": None})
    table = pd.DataFrame([{"kernel": "matmul", "case": "a", "timer_s": 1e-6, "ratio": 1.0}])
    said = [*promises(found.spread, found.known), agreement_promise(table)]
    write_proof(found, table, said, tmp_path / "out" / "machine.md")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["machine.md"]
    text = (tmp_path / "out" / "machine.md").read_text()
    assert "# Do runs repeat? machine" in text
    assert "Measured on here. Settings: threads 1." in text
    assert text.count("| yes") == len(said)
