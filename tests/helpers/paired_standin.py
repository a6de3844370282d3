"""A plugin of pytest that stands in for `paired`: it calls both once and writes what it is told to.

The outcome of every pair is in the variable `STANDIN_OUTCOME`, `passed` where it is not set.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAIRS: list[dict[str, Any]] = []


def entries(pair: str, **said: Any) -> list[dict[str, Any]]:
    """What a session's JSON has of one pair: an entry of ours, and one of theirs."""
    usual = {
        **{"pair": pair, "outcome": "passed", "ratio": 1.0, "low": 0.99, "high": 1.01},
        **{"slower_than": 1.05, "processes": 6, "seconds": 4.0, "log_ratios": [0.001234567] * 6},
        **{"ours_bytes": 100, "theirs_bytes": 100},
    }
    return [
        {"group": pair, "stats": {"median": 5e-5}, "extra_info": usual | said},
        {"group": pair, "stats": {"median": 4e-5}, "extra_info": {}},
    ]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--paired", action="store_true")
    parser.addoption("--paired-json", type=Path)


@pytest.fixture
def paired(request: pytest.FixtureRequest) -> Callable[..., None]:
    outcome = os.environ.get("STANDIN_OUTCOME", "passed")

    def call(ours: Any, theirs: Any, *, inputs: Callable[[], tuple[Any, ...]]) -> None:
        ours_result, theirs_result = ours(*inputs()), theirs(*inputs())
        assert str(ours_result) == str(theirs_result)
        PAIRS.extend(entries(f"{request.node.nodeid}#1", outcome=outcome))
        assert outcome != "failed"

    return call


def pytest_sessionfinish(session: pytest.Session) -> None:
    text = json.dumps({"benchmarks": PAIRS})
    session.config.getoption("--paired-json").write_text(text, encoding="utf-8")
