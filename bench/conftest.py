"""pytest's way in: what `pytest bench` finds here is the plugin of `bench.run`, and its summary."""

from typing import Any

import pytest

from .run.plugin import *  # noqa: F403  # the hooks and the fixture
from .run.plugin import RECORD


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show what pytest-benchmark's table has no column for: speedup, memory, error, reasons."""
    record = config.stash[RECORD]
    if record.state is None and record.results:
        from .cli.results import print_session  # of no use to the processes of a run

        terminalreporter.write_line("")
        print_session([{**row, "median_s": row.get("paired_s")} for row in record.results.values()])
