"""What a session found of its pairs, for a terminal and as a file that pytest-benchmark reads."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_benchmark import __version__
from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import get_commit_info

from ..common.errors import single_line
from ..common.units import UNKNOWN, format_bytes
from .decision import DIFFERS, FAILED, INCONCLUSIVE, PASSED, PairRecord

MARKS = {PASSED: ("", "green"), FAILED: ("F", "red"), DIFFERS: ("D", "red"),
         INCONCLUSIVE: ("I", "yellow")}  # fmt: skip
ROW = "{:1} {:20} {:>5} {:>9} {:17} {}"
HEADING = ROW.format("", "ratio (95 %)", "limit", "processes", "peak ours/theirs", "test")
NAME_WIDTH = 80 - len(ROW.format("", "", "", "", "", ""))


def rows(pairs: Iterable[PairRecord]) -> Iterator[tuple[str, str]]:
    """Return a line of 80 columns for each pair, and its colour; the first line is the heading."""
    yield HEADING, "bold"
    for pair in pairs:
        letter, colour = MARKS[pair.outcome]
        found = pair.state.estimate()
        held = (pair.ours_bytes, pair.theirs_bytes)
        sizes = "/".join(UNKNOWN if one is None else format_bytes(one) for one in held)
        name = single_line(pair.id.partition("::")[2].removesuffix("#1"), NAME_WIDTH - 1)
        shown = str(found) if found else UNKNOWN
        row = ROW.format(letter, shown, f"{pair.slower_than:g}", len(pair.ours_s), sizes, name)
        yield row, colour


def as_json(pairs: Iterable[PairRecord], wall_s: float) -> dict[str, Any]:
    """Return everything that was found, in pytest-benchmark's format: two benchmarks a pair.

    A pair without a time has none; what became of it is in `untimed`.
    """
    every = list(pairs)
    benchmarks, untimed = [], []
    for pair in every:
        info = _info(pair, wall_s / len(every))
        if not pair.ours_s:
            untimed.append(info)
            continue
        benchmarks.append(_benchmark(pair, "ours", pair.ours_s, info))
        benchmarks.append(_benchmark(pair, "theirs", pair.theirs_s, {}))
    return {
        "machine_info": pytest_benchmark_generate_machine_info(),
        "commit_info": get_commit_info(),
        "benchmarks": benchmarks,
        "untimed": untimed,
        "datetime": datetime.now(UTC).isoformat(),
        "version": __version__,
    }


def _info(pair: PairRecord, seconds: float) -> dict[str, Any]:
    found = pair.state.estimate()
    return {
        "pair": pair.id,
        "outcome": pair.outcome,
        "reason": pair.reason,
        "ratio": found and found.ratio,
        "low": found and found.low,
        "high": found and found.high,
        "slower_than": pair.slower_than,
        "larger_than": pair.larger_than,
        "against": pair.against,
        "processes": len(pair.ours_s),
        "seconds": seconds,
        "log_ratios": [*pair.state.screened, *pair.state.confirmed],
        "ours_bytes": pair.ours_bytes,
        "theirs_bytes": pair.theirs_bytes,
    }


def _benchmark(
    pair: PairRecord, side: str, seconds: list[float], info: dict[str, Any]
) -> dict[str, Any]:
    stats = Stats()
    for one in seconds:
        stats.update(one)
    return {
        "group": pair.id,
        "name": f"{pair.id.partition('::')[2]} {side}",
        "fullname": f"{pair.id} {side}",
        "params": None,
        "param": None,
        "extra_info": info,
        "options": {},
        "stats": stats.as_dict() | {"iterations": 1},
    }


def write_json(path: Path, pairs: Iterable[PairRecord], wall_s: float) -> None:
    """Write the file of a session."""
    path.write_text(json.dumps(as_json(pairs, wall_s), indent=1) + "\n", encoding="utf-8")
