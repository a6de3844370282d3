"""Run file -> one tidy frame: read, check and write stored runs.

A run is one JSON file that is written once and never edited. Needs neither torch nor mlr.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..common.errors import UserError, single_line
from .columns import FRAME, MEASURED, OF_CASE, OF_PLAN, OF_STATS
from .files import load_model, store_model
from .schema import Benchmark, Head, Run


def load_run(path: Path) -> Run:
    """Read one run file."""
    return load_model(path, Run)


def load_heads(paths: Iterable[Path]) -> dict[Path, Head]:
    """Read when, where and how each run was measured: quicker by far than `load_run`.

    Its cases are neither kept nor checked; a file that is no run at all is refused all the same.
    """
    return {path: load_model(path, Head) for path in map(Path, paths)}


def by_time(heads: Mapping[Path, Head]) -> list[Path]:
    """Return the paths of runs, the oldest first."""
    return sorted(heads, key=lambda path: (heads[path].datetime, path))


def latest_runs(heads: Mapping[Path, Head]) -> list[Path]:
    """Return the newest run of each machine and grid, sorted by both."""
    kinds = {(heads[p].machine.slug, str(heads[p].settings.get("grid"))): p for p in by_time(heads)}
    return [kinds[kind] for kind in sorted(kinds)]


def write_run(path: Path, run: dict[str, Any]) -> Path:
    """Write a run as a new file, all of it or nothing."""
    return store_model(path, run, Run, exclusive=True)


def load_frame(paths: Iterable[Path]) -> pd.DataFrame:
    """Return one row per planned case of the runs; measured columns are NaN unless it is ok."""
    return runs_frame((path, load_run(path)) for path in dict.fromkeys(map(Path, paths)))


def runs_frame(runs: Iterable[tuple[Path, Run]]) -> pd.DataFrame:
    """Return the tidy frame of runs and where each was read, in their order."""
    # Of many runs one is held at a time: its rows need a twentieth of its memory.
    seen: dict[tuple[str, str], Path] = {}
    parts = [typed_frame([])]
    for path, run in runs:
        other = seen.setdefault((run.machine.slug, path.stem), path)
        if other != path:
            raise UserError(
                f"runs of one machine need different file names: {single_line(other)} and "
                f"{single_line(path)} share one; give one of them"
            )
        parts.append(typed_frame(_rows(run, path.stem)))
    # A copy has columns of one type in one block, and rows are taken out of it far quicker.
    return pd.concat(parts[1:] or parts, ignore_index=True).copy()


def typed_frame(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """Return rows as a frame with the columns of a run and their types."""
    frame = pd.DataFrame(list(rows), columns=list(FRAME), dtype=object)
    return frame.astype({name: column.dtype for name, column in FRAME.items()})


def _rows(run: Run, name: str) -> Iterator[dict[str, object]]:
    commit = run.commit_info
    row = {"run": name, "datetime": run.datetime, "commit": commit.id, "dirty": commit.dirty}
    row |= {"machine": run.machine.slug}
    measured = {benchmark.fullname: benchmark for benchmark in run.benchmarks}
    for outcome in run.outcomes:
        size = f"{outcome.batch}x{outcome.in_features}x{outcome.out_features}"
        planned = {column.name: getattr(outcome, column.name) for column in (*OF_CASE, *OF_PLAN)}
        numbers = _numbers(measured[outcome.fullname]) if outcome.fullname in measured else {}
        yield row | {"fullname": outcome.fullname, "case": size} | planned | numbers


def _numbers(benchmark: Benchmark) -> dict[str, object]:
    stats, extra = benchmark.stats, benchmark.extra_info
    return {
        **{column.name: getattr(stats, column.name.removesuffix("_s")) for column in OF_STATS},
        **{column.name: getattr(extra, column.name) for column in MEASURED},
        "warnings": "; ".join(extra.warnings or ()) or None,
    }


def find_runs(folder: Path) -> list[Path]:
    """Return every run file below a folder, sorted by path; none where there is no folder."""
    return sorted(folder.rglob("[!.]*.json"))
