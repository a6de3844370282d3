"""Run file -> one tidy frame: read, check and write stored runs.

A run is one JSON file that is written once and never edited. Needs neither torch nor mlr.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from math import inf
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic_core import from_json

from ..common.errors import UserError, single_line
from ..common.provenance import parse_utc
from .columns import FRAME, columns_of
from .files import load_model, store_model
from .schema import Benchmark, Head, Run

NAMES = tuple(column.name for column in FRAME)
WHAT = "a run file"

_of_outcome = attrgetter("fullname", *(column.name for column in columns_of("case", "plan")))
_of_stats = attrgetter(*(column.name.removesuffix("_s") for column in columns_of("stats")))
_of_measured = attrgetter(*(column.name for column in columns_of("measured")))
_MEASURED = len(columns_of("stats", "measured"))
_BUILT = ("run", "datetime", "commit", "dirty", "machine", "case", "fullname")


def load_run(path: Path) -> Run:
    """Read one run file."""
    return load_model(path, Run, WHAT, inf)


def load_head(path: Path) -> Head:
    """Read when, where and how a run was measured: quicker by far than `load_run`.

    Its cases are neither kept nor checked; a file that is no run at all is refused all the same.
    """
    return load_model(path, Head, WHAT, inf, _parse_head)


def _parse_head(text: str) -> object:
    document = from_json(text, allow_inf_nan=False)
    if not isinstance(document, dict) or "schema" not in document:
        return document
    names = {field.alias or name for name, field in Head.model_fields.items()}
    return {name: value for name, value in document.items() if name in names}


def load_heads(paths: Iterable[Path]) -> dict[Path, Head]:
    """Return when, where and how each run was measured, see `load_head`."""
    return {path: load_head(path) for path in map(Path, paths)}


def by_time(heads: Mapping[Path, Head]) -> list[Path]:
    """Return the paths of runs, the oldest first."""
    return sorted(heads, key=lambda path: (parse_utc(heads[path].datetime), path))


def latest_runs(heads: Mapping[Path, Head]) -> list[Path]:
    """Return the newest run of each machine and grid, sorted by both."""
    kinds = {(heads[p].machine.slug, str(heads[p].settings.get("grid"))): p for p in by_time(heads)}
    return [kinds[kind] for kind in sorted(kinds)]


def write_run(path: Path, run: Run | Mapping[str, Any]) -> Path:
    """Write a run as a new file, all of it or nothing."""
    return store_model(path, run, Run, WHAT, exclusive=True)


def load_frame(paths: Iterable[Path]) -> pd.DataFrame:
    """Return one row per planned case of the runs; measured columns are NaN unless it is ok."""
    return _framed((path, load_run(path)) for path in dict.fromkeys(map(Path, paths)))


def runs_frame(runs: Mapping[Path, Run]) -> pd.DataFrame:
    """Return the tidy frame of runs that were read already, in their order."""
    return _framed((Path(path), run) for path, run in runs.items())


def _framed(runs: Iterable[tuple[Path, Run]]) -> pd.DataFrame:
    # Of many runs one is held at a time: its rows need a twentieth of its memory.
    seen: dict[tuple[str, str], Path] = {}
    parts = [_typed([])]
    for path, run in runs:
        other = seen.setdefault((run.machine.slug, path.stem), path)
        if other != path:
            raise UserError(
                f"runs of one machine need different file names: {single_line(other)} and "
                f"{single_line(path)} share one; give one of them"
            )
        parts.append(_typed(_rows(run, path.stem)))
    # A copy has columns of one type in one block, and rows are taken out of it far quicker.
    return pd.concat(parts[1:] or parts, ignore_index=True).copy()


def _typed(rows: Iterable[tuple[object, ...]]) -> pd.DataFrame:
    built = (*_BUILT, *NAMES[len(_BUILT) :])
    frame = pd.DataFrame(list(rows), columns=list(built), dtype=object)[list(NAMES)]
    return frame.astype({column.name: column.dtype for column in FRAME})


def _rows(run: Run, name: str) -> Iterator[tuple[object, ...]]:
    commit = run.commit_info
    shared = (name, run.datetime, commit.id, commit.dirty, run.machine.slug)
    measured = {benchmark.fullname: benchmark for benchmark in run.benchmarks}
    nothing = (None,) * _MEASURED
    for outcome in run.outcomes:
        size = f"{outcome.batch}x{outcome.in_features}x{outcome.out_features}"
        benchmark = measured.get(outcome.fullname)
        numbers = nothing if benchmark is None else _measured(benchmark)
        yield (*shared, size, *_of_outcome(outcome), *numbers)


def _measured(benchmark: Benchmark) -> tuple[object, ...]:
    *numbers, warnings = _of_measured(benchmark.extra_info)
    return (*_of_stats(benchmark.stats), *numbers, "; ".join(warnings) or None)


def find_runs(folder: Path) -> list[Path]:
    """Return every run file below a folder, sorted by path."""
    folder = Path(folder)

    def refuse(error: OSError) -> None:
        raise UserError(
            f"stored runs are read from a folder: {single_line(folder)} cannot be listed "
            f"({single_line(error.strerror, 120)}); give the folder of the runs"
        ) from error

    found = [
        Path(root) / name
        for root, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if name.endswith(".json") and not name.startswith(".")
    ]
    return sorted(found)
