"""Write report.html, REPORT.md, figures and tables out of stored runs, without torch."""

from __future__ import annotations

import argparse
import ast
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from rich.console import Console

from ...analysis import compare
from ...common.errors import UserError, single_line
from ...common.paths import RESULTS
from ...common.units import counted, format_ratio
from ...convergence import section as convergence
from ...convergence.records import ConvergenceRun
from ...experiments.gate_power import section as gate_power
from ...experiments.gate_power.analysis import read_all
from ...report import publishing
from ...report.build import Keep, write_report, write_table
from ...report.subject import Subject
from ...report.tables import KERNEL, SIZE, Column, render
from ...scaling import section as scaling
from ...scaling.records import ScalingRun
from ...store.runs import (
    NAMES,
    find_runs,
    latest_runs,
    load_frame,
    load_heads,
    load_run,
    runs_frame,
)
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
    """Report the runs that are named, or those of a results folder; return the exit status."""
    keep = parse_filter(arguments.filter)
    if arguments.compare:
        return _compare(arguments.runs, keep)
    results, out = arguments.out, arguments.out / "report"
    beside = () if arguments.runs else others(results)
    if arguments.readme is not None:
        if arguments.filter:
            raise UserError(
                "a README shows every case of its runs; got --filter with --readme; leave one of "
                "them out"
            )
        publishing.check_readme(arguments.readme, beside)
        publishing.refuse_foreign(results, publishing.PUBLISHED)
    every = arguments.runs or _runs_of(results)
    suffixes = [suffix for suffix in ("csv", "parquet") if suffix in arguments.format]
    frame = keep(load_frame(every)) if suffixes else pd.DataFrame()
    tables = [write_table(frame, out / f"results.{suffix}") for suffix in suffixes]
    written: list[Path] = []
    if {"html", "md"} & set(arguments.format) or arguments.readme is not None:
        heads = load_heads(every)
        shown = arguments.runs or latest_runs(heads)
        # A filter leaves a part of each run, which says nothing of how the code changed it.
        history = {} if arguments.runs or arguments.filter else heads
        written = write_report(shown, out, beside, keep, "html" in arguments.format, history)
    print(_said(out, written, tables))
    if arguments.readme is not None:
        print(_publish(arguments.readme, results, shown, beside))
    return 0


def _runs_of(results: Path) -> list[Path]:
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
        convergence.subject(ConvergenceRun.latest(results / "convergence")),
        scaling.subject(ScalingRun.latest(results / "scaling")),
        gate_power.subject(read_all(sorted((results / "gate").glob("*.jsonl")))),
    ]


def _publish(readme: Path, results: Path, runs: Sequence[Path], beside: Sequence[Subject]) -> str:
    published = publishing.publish(results / "report", results)
    frame = load_frame(runs)
    figures = quote(Path(os.path.relpath(results / "figures", readme.parent)).as_posix())
    changed = publishing.update_readme(readme, frame, figures, beside)
    count = counted(len(published) - 1, "figure")
    return (
        f"published {_near(published[0])} and {count} under {_near(results / 'figures')}; "
        f"{_near(readme)} is {'renewed' if changed else 'as it was'}"
    )


def _said(out: Path, written: Sequence[Path], tables: Sequence[Path]) -> str:
    names = " and ".join(path.name for path in tables)
    among = f", {names} among them" if written and tables else ""
    pages = [path for path in written if path.name == "report.html"]
    first = [*pages, *written, *tables][0]
    count = counted(len(written) + len(tables), "file")
    return f"wrote {count} under {_near(out)}{among}; open {_near(first)}"


def _compare(paths: Sequence[Path], keep: Keep) -> int:
    if len(paths) != 2:
        raise UserError(f"--compare takes two runs, the earlier first; got {len(paths)}")
    runs = [load_run(path) for path in paths]
    compare.require_same_settings(*runs)
    frames = [keep(runs_frame({path: run})) for path, run in zip(paths, runs, strict=True)]
    print_compared(compare.compare_runs(*frames))
    return 0


def _near(path: Path) -> str:
    whole, here = Path(os.path.abspath(path)), Path.cwd()
    return single_line(whole.relative_to(here) if whole.is_relative_to(here) else path, 1000)


def _memory(ratio: float, before: float, after: float) -> str:
    if pd.isna(ratio) or before == after:
        return ""
    text = format_ratio(ratio)
    return text if text != format_ratio(1.0) else f"{after - before:+,.0f} B"


_COMPARED = (
    KERNEL,
    SIZE,
    Column("speed", ("why", "ratio", "low", "high"), lambda why, *of: why or format_ratio(*of)),
    Column("memory", ("memory_ratio", "peak_bytes_a", "peak_bytes_b"), _memory),
    Column("", "verdict", lambda verdict: "" if verdict == compare.NOT_COMPARED else verdict),
)


def print_compared(table: pd.DataFrame) -> None:
    """Print the cases that changed, what was counted, and how to take it."""
    console = Console(highlight=False)
    parts = ["operation", "device", "dtype"]
    for part, rows in table[compare.has_changed(table)].groupby(parts, sort=False):
        console.print(" ".join(map(str, part)), style="italic", markup=False)
        console.print(render(rows, _COMPARED, to="console"))
    for where in compare.ONLY_ONE:
        if count := int((table["why"] == where).sum()):
            console.print(f"{where}: {counted(count, 'case')}")
    both = table[~table["why"].isin(compare.ONLY_ONE)]
    console.print(_counts(both))
    if compared := int((both["verdict"] != compare.NOT_COMPARED).sum()):
        console.print(
            "Speed is the second run's over the first's, each against torch.nn in its own process. "
            f"By chance alone about 1 in 20 of {counted(compared, 'case')} would change: "
            "`python -m bench gate` decides."
        )


def _counts(both: pd.DataFrame) -> str:
    if both.empty:
        return "No case is in both runs."
    verdicts = Counter(both["verdict"])
    why = Counter(both.loc[both["verdict"] == compare.NOT_COMPARED, "why"])
    found = [
        f"{verdicts[name]} {name}" for name in sorted(verdicts.keys() - {compare.NOT_COMPARED})
    ]
    if why:
        reasons = [
            counted(of, name) if name == compare.BASELINE else f"{of:,} {name}"
            for name, of in sorted(why.items())
        ]
        found.append(
            f"{verdicts[compare.NOT_COMPARED]:,} {compare.NOT_COMPARED} ({', '.join(reasons)})"
        )
    return ", ".join(found)


_ALLOWED = (
    *(ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE),
    *(ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple),
)


def parse_filter(text: str | None) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Return the function that keeps the rows of which an expression is true; all without one.

    It is one of `DataFrame.query`: comparisons and arithmetic on columns, no call, no attribute.
    """
    if text is not None:
        _check(text)

    def keep(frame: pd.DataFrame) -> pd.DataFrame:
        if text is None:
            return frame
        try:
            kept = frame.query(text, engine="python")
        except Exception as error:  # of numbers with texts, say: pandas documents no common type
            raise _refused(text, single_line(error, 100)) from error
        if kept.empty:
            raise UserError(
                f"--filter must leave a case; {single_line(text)!r} leaves none of {len(frame):,}; "
                "`report --format csv` writes all of them"
            )
        return kept

    return keep


def _check(text: str) -> None:
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(text, "it cannot be read") from error
    for node in nodes:
        if not isinstance(node, _ALLOWED):
            raise _refused(text, f"{type(node).__name__} is not allowed")
        if isinstance(node, ast.Name) and node.id not in NAMES:
            raise _refused(text, f"{single_line(node.id, 60)} is no column")
    if not any(isinstance(node, ast.Compare) for node in nodes):
        raise _refused(text, "it compares nothing")


def _refused(text: str, why: str) -> UserError:
    return UserError(
        "--filter takes an expression on the columns of a run, such as \"operation == 'step' and "
        f'batch >= 100"; got {single_line(text)!r}: {why}; `report --format csv` shows the columns'
    )
