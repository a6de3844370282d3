"""Run file -> one tidy frame: read, check and write stored runs.

A run is one JSON file that is written once and never edited. Needs neither torch nor mlr.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..common.errors import UserError, single_line
from .bounds import BEYOND, beyond_bounds, with_best_ceilings
from .built_in import ITERATIVE
from .columns import FRAME, MEASURED, OF_CASE, OF_PLAN, OF_STATS, SHARED, case_of, sizes_of
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
    """Return the newest run of each machine and grid, sorted by both.

    One that measured nothing is passed over where there is one that did.
    """
    measured = sorted(by_time(heads), key=lambda path: bool(heads[path].benchmarks))
    kinds = {(heads[p].machine.slug, str(heads[p].settings.get("grid"))): p for p in measured}
    return [kinds[kind] for kind in sorted(kinds)]


def write_run(path: Path, run: dict[str, Any]) -> Path:
    """Write a run as a new file, all of it or nothing."""
    return store_model(path, run, Run, exclusive=True)


def read_run(path: Path, heads: Mapping[Path, Head]) -> Run:
    """Read one run file; its ceilings are the best of all runs of its machine with a head."""
    return with_best_ceilings(load_run(path), heads.values())


def load_frame(paths: Iterable[Path], heads: Mapping[Path, Head] | None = None) -> pd.DataFrame:
    """Return one row per planned case of the runs; measured columns are NaN unless it is ok.

    Ceilings are the best of all runs with a head: where none are given, of the runs themselves.
    """
    chosen = [*dict.fromkeys(map(Path, paths))]
    known = load_heads(chosen) if heads is None else heads
    return runs_frame((path, read_run(path, known)) for path in chosen)


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
        frame = typed_frame(_rows(run, path.stem))
        _add_times(frame, run)
        _add_rooflines(frame, run)
        parts.append(frame)
    # A copy has columns of one type in one block, and rows are taken out of it far quicker.
    return _with_axes(pd.concat(parts[1:] or parts, ignore_index=True)).copy()


def typed_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a frame with the columns of a run, one for each axis, and their types."""
    found = []
    for row in rows:
        sizes = sizes_of(row)
        found.append({**row, **sizes, "axes": ", ".join(sizes), "case": case_of(sizes)})
    table = pd.DataFrame(found, columns=_names(axes_in(found)), dtype=object)
    types = {name: column.dtype for name, column in FRAME.items() if name != "sizes"}
    return _with_axes(table.astype(types))


def axes_in(rows: pd.DataFrame | list[dict[str, Any]]) -> list[str]:
    """Return the axes of all operations there are, in the order in which they come."""
    every = rows["axes"].unique() if isinstance(rows, pd.DataFrame) else [r["axes"] for r in rows]
    return list(dict.fromkeys(axis for axes in every for axis in axes.split(", ")))


def _names(axes: Iterable[str]) -> list[str]:
    return [one for name in FRAME for one in (axes if name == "sizes" else [name])]


def _with_axes(frame: pd.DataFrame) -> pd.DataFrame:
    """Put the column of each axis in its place: whole numbers, missing where there is none."""
    axes = axes_in(frame)
    types = {axis: "Int64" if frame[axis].isna().any() else "int64" for axis in axes}
    return frame[_names(axes)].astype(types)


def _rows(run: Run, name: str) -> Iterator[dict[str, object]]:
    commit = run.commit_info
    row = {"run": name, "datetime": run.datetime, "commit": commit.id, "dirty": commit.dirty}
    row |= {"machine": run.machine.slug}
    measured = {benchmark.fullname: benchmark for benchmark in run.benchmarks}
    for outcome in run.outcomes:
        planned = {column.name: getattr(outcome, column.name) for column in (*OF_CASE, *OF_PLAN)}
        planned["threads"] = outcome.threads or run.threads or 1
        if outcome.iterative is None:
            planned["iterative"] = outcome.operation in ITERATIVE
        numbers = _numbers(measured[outcome.fullname]) if outcome.fullname in measured else {}
        yield row | {"fullname": outcome.fullname} | planned | numbers


def _numbers(benchmark: Benchmark) -> dict[str, object]:
    stats, extra = benchmark.stats, benchmark.extra_info
    return {
        **{column.name: getattr(stats, column.name.removesuffix("_s")) for column in OF_STATS},
        **{column.name: getattr(extra, column.name) for column in MEASURED},
        # Runs stored so far count only those whose sample counts.
        "contended_processes": sum(bool(sample.contended) for sample in benchmark.samples),
        # Whether a time is beyond its bound is seen with the ceilings that are known by now.
        "warnings": _joined(one for one in extra.warnings or () if not one.startswith(BEYOND)),
    }


def _joined(warnings: Iterable[str]) -> str | None:
    return "; ".join(warnings) or None


def _add_times(frame: pd.DataFrame, run: Run) -> None:
    """Replace pytest-benchmark's times by those of the paired slices, which divide to speedups.

    Kernels are paired with their baseline some seconds apart, while the machine drifts. So a time
    is the median over processes of the baseline's there, over all pairs of the case, ÷ the speedup.
    A kernel without a pair keeps the time of its own slices, or pytest-benchmark's.
    """
    samples = pd.DataFrame(
        [
            (one.fullname, sample.number, sample.paired_s, sample.log_speedup or 0.0)
            for one in run.benchmarks
            for sample in one.samples
            if not sample.contended or len(one.samples) == one.extra_info.processes
        ],
        columns=["fullname", "process", "own_s", "log"],
    ).astype({"own_s": float, "log": float})
    samples = samples.merge(frame[["fullname", "kernel", *SHARED]], on="fullname")
    samples["baseline_s"] = samples["own_s"] * np.exp(samples["log"])
    by_process = samples.groupby([*SHARED, "process"])["baseline_s"].median()
    baseline_s = frame[SHARED].join(by_process.groupby(SHARED).median(), on=SHARED)["baseline_s"]
    timed = samples["own_s"].notna() | (samples["kernel"] == samples["baseline"])
    paired = frame["fullname"].isin(samples.loc[timed, "fullname"])
    known = (baseline_s / frame["speedup"]).where(paired).fillna(frame["paired_s"])
    scale = (known / frame["median_s"]).fillna(1.0)
    for name in ("median_s", "q1_s", "q3_s"):
        frame[name] *= scale


def _add_rooflines(frame: pd.DataFrame, run: Run) -> None:
    """Add the roofline of each measured case: in older runs by the least of all formulas there."""
    formulas = frame[["flops", "bytes_moved", "input_bytes"]]
    least = formulas.where(formulas > 0).groupby([frame[name] for name in SHARED]).transform("min")
    least.columns = ["least_flops", "least_bytes", "input_bytes"]
    cases = frame[["device", "threads", "dtype", *least]]
    if not any("least_flops" in one.model_fields_set for one in run.outcomes):
        cases = cases.fillna(least).fillna(0.0)
        frame[[*least]] = cases[[*least]]
    declared = cases[["least_flops", "least_bytes"]].notna().all(axis=1)
    bounds = [
        run.machine.ceilings_of(device, threads).roofline(dtype, *work)
        for device, threads, dtype, *work in cases.fillna(0.0).itertuples(index=False)
    ]
    found = pd.DataFrame(bounds, frame.index, ["roofline_s", "roofline_cold_s", "bound"])
    # Without ceilings nothing bounds a case.
    known = (frame["status"] == "ok") & (found["roofline_s"] > 0) & declared
    frame[[*found]] = found.where(known)
    frame["efficiency"] = frame["roofline_s"] / frame["median_s"]
    frame["efficiency_cold"] = frame["roofline_cold_s"] / frame["cold_s"]
    shares = 1 / frame[["efficiency", "efficiency_cold"]].fillna(1.0)
    frame["warnings"] = [
        _joined(filter(None, (own, *beyond_bounds(hot, cold))))
        for own, hot, cold in zip(frame["warnings"].fillna(""), *shares.to_numpy().T, strict=True)
    ]


def find_runs(folder: Path) -> list[Path]:
    """Return every run file below a folder, sorted by path; none where there is no folder."""
    return sorted(folder.rglob("[!.]*.json"))
