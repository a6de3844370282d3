"""What `pytest bench` prints at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ..run.plugin import ALIKE, RECORD, SIZES


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show what pytest-benchmark's table has no column for: speedup, memory, error, reasons."""
    record = config.stash[RECORD]
    measured = {(one["kernel"], *_size(one)): one for one in record.results}
    rows = [
        measured.get((one["kernel"], *_size(one)), {**one, "median_s": None})
        for one in (outcome.columns() for outcome in record.outcomes.values())
    ]
    if record.journal is not None or not rows:
        return
    from .console import print_session  # of no use to the processes of a run

    terminalreporter.write_line("")
    print_session(rows)


def _size(columns: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(columns[name] for name in (*ALIKE, *SIZES))
