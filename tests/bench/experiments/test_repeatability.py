"""Runs held against each other: the figures of the verdict, from runs whose spread is known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_builder import build_run

from bench.experiments.repeatability import TWICE, Found, coverage, promises, spread, write_proof
from bench.store.schema import Run

SETTINGS = {"threads": 1, "omp_places": None, "allocator": {"LD_PRELOAD": "a_b" * 50}}
RUN = Run(**build_run(["gradient"]) | {"settings": SETTINGS})


def frame(shift: float, low: float = 0.98, high: float = 1.02) -> Any:
    rows = []
    for kernel, speedup in (("autograd", 1.0), ("matmul", 2.0 * math.exp(shift)), (TWICE, 0.5)):
        apart = kernel != "autograd"
        rows.append(
            {
                **{"operation": "gradient", "device": "cpu", "dtype": "float64"},
                **{"threads": 1, "case": "33x6x3"},
                **{"kernel": kernel, "baseline": "autograd", "status": "ok"},
                "speedup": speedup,
                "speedup_low": speedup * low if apart else np.nan,
                "speedup_high": speedup * high if apart else np.nan,
            }
        )
    return pd.DataFrame(rows)


def numbered(*frames: Any) -> pd.DataFrame:
    return pd.concat(frames, keys=range(len(frames)), names=["number"]).reset_index("number")


def found(*frames: Any) -> Found:
    rows = numbered(*frames)
    return Found(RUN, spread(rows), coverage(rows))


def test_the_spread_over_runs_is_that_of_the_log_speedups() -> None:
    shifts = [0.0, 0.02, -0.02, 0.04]
    table = spread(numbered(*map(frame, shifts))).set_index("kernel")
    assert table.loc["matmul", "sd"] == pytest.approx(np.std(shifts, ddof=1))
    assert table.loc[TWICE, "sd"] == pytest.approx(0, abs=1e-12)
    assert "autograd" not in table.index


def test_intervals_that_miss_the_known_ratio_are_counted() -> None:
    rows = numbered(frame(0.0), frame(0.0, low=1.01, high=1.05))
    assert list(coverage(rows)["holds"]) == [True, False]


def test_a_promise_that_is_not_kept_is_said() -> None:
    steady = promises(found(*map(frame, (0.0, 0.001, -0.001))))
    assert steady["kept"].all()
    assert list(steady["measured"][2:]) == ["0.05%", "100.00%"]
    wild = [frame(shift, low=1.01) for shift in (0.0, 0.5, -0.5)]
    kept = promises(found(*wild))["kept"]
    assert not any((kept[0], kept[1], kept[3]))


def test_what_was_shown_is_one_file_written_whole(tmp_path: Path) -> None:
    path = write_proof(found(frame(0.0), frame(0.01)), tmp_path)
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [path]
    text = path.read_text()
    assert "\n\n# Do runs repeat? amd-epyc-2-core\n\nMeasured on amd-epyc-2-core, commit " in text
    assert "threads 1." in text
    assert "a_b" * 50 in text
    assert "omp_places" not in text
    assert text.count("| yes") == 4
