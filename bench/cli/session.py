"""What `pytest bench` prints at its end."""

from __future__ import annotations

from typing import Any

import pytest

from ..run.plugin import RECORD


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show what pytest-benchmark's table has no column for: speedup, memory, error, reasons."""
    record = config.stash[RECORD]
    rows = [
        record.results.get(name, {**outcome.columns(), "median_s": None})
        for name, outcome in record.outcomes.items()
    ]
    if record.journal is not None or not rows:
        return
    from .results import print_session  # of no use to the processes of a run

    terminalreporter.write_line("")
    print_session(rows)
