"""Write report.html, REPORT.md, figures and tables out of stored runs, without torch."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from ...analysis.compare import compare_runs, require_same_settings
from ...common.errors import UserError
from ...common.paths import RESULTS
from ...common.units import counted
from ...convergence import section as convergence
from ...convergence.records import latest_convergence_runs
from ...experiments.gate_power import section as gate_power
from ...experiments.gate_power.records import read_all
from ...report.build import NO_HISTORY, Keep, write_report
from ...report.export import write_table
from ...report.publishing import PUBLISHED, publish, refuse_foreign, short_names
from ...report.readme import check_readme, update_readme
from ...report.subject import Subject
from ...scaling import section as scaling
from ...scaling.records import latest_scaling_runs
from ...store.runs import find_runs, load_frame, load_heads, load_run, runs_frame, single_line
from ...store.schema import Head
from ...store.shards import group_shards, latest_runs, merge_shards
from ..compared import print_compared
from ..filtering import parse_filter
from ..say import say
from ..types import formats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN",
        help="run files: show these and nothing else (default: all that the results folder has)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=RESULTS,
        help="results folder, as of run: its runs are read, its report/ is written "
        "(default: results)",
    )  # fmt: skip
    parser.add_argument(
        "--readme", type=Path,
        help="publish: renew the generated parts of this README, and REPORT.md and figures/ of the "
        "results folder",
    )  # fmt: skip
    parser.add_argument(
        "--format",
        type=formats,
        default=("html", "md"),
        help="html,md (the default; html comes with md), and csv or parquet: every case of every "
        "stored run in one table",
    )
    parser.add_argument(
        "--filter",
        help="only these results, as pandas' query: \"operation == 'step' and batch >= 100\"",
    )
    parser.add_argument(
        "--compare", action="store_true", help="of two runs: is the second faster, case by case?"
    )


def run(arguments: argparse.Namespace) -> int:
    """Report the runs that are named, or those of a results folder; return the exit status.

    Raises:
        UserError: What is asked for does not go together, or cannot be read or written.
    """
    keep = parse_filter(arguments.filter)
    if arguments.compare:
        return _compare(arguments.runs, keep)
    results, out = arguments.out, arguments.out / "report"
    beside = () if arguments.runs else others(results)
    if arguments.readme is not None:
        _check_published(arguments, beside)
    every = arguments.runs or _runs_of(results)
    suffixes = [suffix for suffix in ("csv", "parquet") if suffix in arguments.format]
    frame = keep(load_frame(every)) if suffixes else pd.DataFrame()
    tables = [write_table(frame, out / f"results.{suffix}") for suffix in suffixes]
    written: list[Path] = []
    if {"html", "md"} & set(arguments.format) or arguments.readme is not None:
        heads = load_heads(every)
        shown = arguments.runs or _latest(heads)
        # A filter leaves a part of each run, which says nothing of how the code changed it.
        history = NO_HISTORY if arguments.runs or arguments.filter else heads
        written = write_report(shown, out, beside, keep, "html" in arguments.format, history)
    print(_said(out, written, tables))
    if arguments.readme is not None:
        print(_publish(arguments.readme, results, shown, beside))
    return 0


def _check_published(arguments: argparse.Namespace, beside: Sequence[Subject]) -> None:
    """Refuse before anything is written what could not be published."""
    if arguments.filter:
        raise UserError(
            "a README shows every case of its runs; got --filter with --readme; leave one of them "
            "out"
        )
    check_readme(arguments.readme, beside)
    refuse_foreign(arguments.out, PUBLISHED)


def _runs_of(results: Path) -> list[Path]:
    """Return every stored run of a results folder."""
    folder = results / "runs"
    found = find_runs(folder) if folder.is_dir() else []
    if not found:
        raise UserError(
            f"a report needs stored runs: {_near(folder)} has none; measure with `python -m bench "
            f"run --out {_near(results)}`, give the --out of an earlier run, or name its files"
        )
    return found


def others(results: Path) -> list[Subject]:
    """Return what a results folder has beside its runs."""
    return [
        convergence.subject(latest_convergence_runs(results / "convergence")),
        scaling.subject(latest_scaling_runs(results / "scaling")),
        gate_power.subject(read_all(sorted((results / "gate").glob("*.jsonl")))),
    ]


def _latest(heads: Mapping[Path, Head]) -> list[Path]:
    """Return the runs that a report is made of by default, and say which are left out, and why."""
    runs, without = latest_runs(heads), [s.describe() for s in group_shards(heads) if s.missing]
    if not runs:
        raise UserError(f"a report needs a whole run; {'; '.join(without)}")
    for line in without:
        say(f"left out: {line}")
    return runs


def _publish(readme: Path, results: Path, runs: Sequence[Path], beside: Sequence[Subject]) -> str:
    """Renew what a repository keeps of a report, and a README; say what was done."""
    published = publish(results / "report", results, short_names(beside))
    frame = runs_frame(merge_shards({path: load_run(path) for path in runs}))
    figures = quote(Path(os.path.relpath(results / "figures", readme.parent)).as_posix())
    changed = update_readme(readme, frame, figures, beside)
    count = counted(len(published) - 1, "figure")
    return (
        f"published {_near(published[0])} and {count} under {_near(results / 'figures')}; "
        f"{_near(readme)} is {'renewed' if changed else 'as it was'}"
    )


def _said(out: Path, written: Sequence[Path], tables: Sequence[Path]) -> str:
    """Say how much was written, where, and what to open."""
    names = " and ".join(path.name for path in tables)
    among = f", {names} among them" if written and tables else ""
    texts = [path for path in written if path.name == "report.html"] or list(written[:1])
    first = (texts or list(tables))[0]
    count = counted(len(written) + len(tables), "file")
    return f"wrote {count} under {_near(out)}{among}; open {_near(first)}"


def _compare(paths: Sequence[Path], keep: Keep) -> int:
    """Print how each case of the second of two runs stands to the first."""
    if len(paths) != 2:
        raise UserError(f"--compare takes two runs, the earlier first; got {len(paths)}")
    runs = [load_run(path) for path in paths]
    require_same_settings(*runs)
    frames = [keep(runs_frame({path: run})) for path, run in zip(paths, runs, strict=True)]
    print_compared(compare_runs(*frames))
    return 0


def _near(path: Path) -> str:
    """Write a path, from the working directory where it is below it."""
    whole = Path(os.path.abspath(path))
    here = Path.cwd()
    return single_line(whole.relative_to(here) if whole.is_relative_to(here) else path, 1000)
