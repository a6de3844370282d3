"""The columns of a run: what follows from their one list."""

import pytest
from column_tables import column_tables
from paths import ROOT

from bench.store import columns
from bench.store.columns import FRAME, reduce_samples


def test_no_column_is_declared_twice() -> None:
    parts = columns.OF_FRAME, columns.OF_CASE, columns.OF_PLAN, columns.OF_STATS, columns.MEASURED
    assert len(FRAME) == sum(map(len, parts))


def test_samples_become_one_value_as_their_column_says() -> None:
    samples = [{"first_call_s": one, "device_hot_s": one} for one in (1.0, 5.0, 2.0)]
    found = reduce_samples([*samples, {"first_call_s": None}])
    assert found == pytest.approx(
        {
            "first_call_s": 5.0,
            "cold_s": None,
            "paired_s": None,
            "device_hot_s": 2.0,
            "device_cold_s": None,
            "launch_gap_s": None,
        }
    )


def test_the_documentation_lists_the_columns() -> None:
    text = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    shown = text.split("<!-- columns -->\n")[1].split("\n<!-- /columns -->")[0]
    renew = "`PYTHONPATH=. python tests/helpers/column_tables.py`"
    assert shown == column_tables(), f"put the output of {renew} between the markers"
