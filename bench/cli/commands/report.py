"""Write report.html, REPORT.md, figures and tables out of stored runs, without torch."""

import argparse
import ast
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from rich.console import Console

from ...analysis import compare
from ...common.errors import UserError, single_line
from ...common.paths import COMMAND, RESULTS
from ...common.units import counted, format_ratio, tally
from ...report import publishing
from ...report.build import Keep, write_report, write_table
from ...report.tables import Column
from ...store.runs import latest_runs, load_frame, load_heads, read_run, runs_frame
from ..output import Output, add_forms
from ..results import print_by_size
from ..stored import others, stored_runs, stored_trials

TEXTS, TABLES = {"html", "md"}, {"csv", "parquet"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    named = "run files: show these and nothing else (default: all that the results folder has)"
    add("runs", nargs="*", type=Path, metavar="RUN", help=named)
    folder = "results folder, as of run: its runs are read, its report/ is written"
    add("--out", type=Path, default=RESULTS, help=f"{folder} (default: results)")
    publish = (
        "publish: renew the generated parts of this README, and REPORT.md and figures/ of the "
        "results folder"
    )
    add("--readme", type=Path, help=publish)
    kinds = (
        "html,md (the default; html comes with md), and csv or parquet: every case of every "
        "stored run in one table"
    )
    add("--format", default="html,md", help=kinds)
    query = "only these results, as pandas' query: \"dtype == 'float64' and batch >= 100\""
    add("--filter", help=query)
    add("--compare", action="store_true", help="of two runs: is the second faster, case by case?")
    add_forms(parser)


def run(arguments: argparse.Namespace) -> Output:
    """Report the runs that are named, or those of a results folder; return what was written."""
    keep = partial(keep_cases, arguments.filter)
    if arguments.compare:
        return compare_files(arguments.runs, keep)
    results, readme, out = arguments.out, arguments.readme, arguments.out / "report"
    formats = set(arguments.format.split(","))
    if formats - TEXTS - TABLES:
        raise UserError(f"--format takes html, md, csv or parquet; got {arguments.format!r}")
    beside = () if arguments.runs else others(results, stored_trials(results))
    if readme is not None:
        if arguments.filter:
            raise UserError(
                "a README shows every case of its runs; got --filter with --readme; leave one of "
                "them out"
            )
        publishing.check_readme(readme, beside)
        publishing.refuse_foreign(results, publishing.PUBLISHED)
    every = arguments.runs or stored_runs(results)
    heads, written = load_heads(every), list[Path]()
    if formats & TEXTS or readme is not None:
        shown = arguments.runs or latest_runs(heads)
        # A filter leaves a part of each run, which says nothing of how the code changed it.
        history = not (arguments.runs or arguments.filter)
        written, frame = write_report(shown, out, beside, keep, "html" in formats, heads, history)
    if suffixes := formats & TABLES:
        table = keep(load_frame(every, heads))
        written += [write_table(table, out / f"results.{suffix}") for suffix in sorted(suffixes)]
    page = out / "report.html"
    first = page if page in written else written[0]
    said = [f"wrote {counted(len(written), 'file')} under {out}; open {first}"]
    if readme is not None:
        published = publishing.publish(out, results)
        figures = quote(Path(os.path.relpath(results / "figures", readme.parent)).as_posix())
        changed = publishing.update_readme(readme, frame, figures, beside)
        said.append(
            f"published {published[0]} and {counted(len(published) - 1, 'figure')}; {readme} is "
            f"{'renewed' if changed else 'as it was'}"
        )
    return Output({"written": written, "open": first}, partial(print, *said, sep="\n"), [first])


_ALLOWED = (
    *(ast.Expression, ast.BoolOp, ast.boolop, ast.UnaryOp, ast.unaryop, ast.BinOp, ast.operator),
    *(ast.Compare, ast.cmpop, ast.Name, ast.expr_context, ast.Constant, ast.List, ast.Tuple),
)


def keep_cases(text: str | None, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of which an expression on the columns of a run is true; all without one.

    It is one of `DataFrame.query`: comparisons and arithmetic on columns, no call, no attribute.
    """
    if text is None:
        return frame
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
        if strange := [type(node).__name__ for node in nodes if not isinstance(node, _ALLOWED)]:
            raise ValueError(f"{strange[0]} is not allowed")
        if not any(isinstance(node, ast.Compare) for node in nodes):
            raise ValueError("it compares nothing")
        kept = frame.query(text.strip(), engine="python", local_dict={}, global_dict={})
    except Exception as error:  # pandas documents no common type of its own
        raise UserError(
            "--filter takes an expression on the columns of a run, such as \"dtype == 'float64' "
            f'and batch >= 100"; got {single_line(text)!r}: {single_line(error, 100)}; '
            "`report --format csv` shows the columns"
        ) from error
    if kept.empty:
        raise UserError(
            f"--filter must leave a case; {single_line(text)!r} leaves none of {len(frame):,}; "
            "`report --format csv` writes all of them"
        )
    return kept


def compare_files(paths: Sequence[Path], keep: Keep) -> Output:
    """Return whether the second of two runs is the faster, case by case."""
    if len(paths) != 2:
        raise UserError(f"--compare takes two runs, the earlier first; got {len(paths)}")
    heads = load_heads(paths)
    runs = {path: read_run(path, heads) for path in paths}
    if len(machines := sorted({run.machine.slug for run in runs.values()})) > 1:
        raise UserError(
            f"two runs are compared on one machine; these are of {' and '.join(machines)}; "
            "`report` shows machines side by side"
        )
    compare.require_same_settings(runs)
    first, second = (runs_frame([(path, runs[path])]) for path in paths)
    table = compare.compare_runs(keep(first), keep(second))

    def show() -> None:
        names = [single_line(path.stem) for path in paths]
        where = f"on {single_line(machines[0])}"
        Console(highlight=False).print(
            f"Run {names[1]} against {names[0]}, {where}\n", markup=False
        )
        print_compared(table)

    return Output({"first": paths[0], "second": paths[1], "cases": table.to_dict("records")}, show)


COMPARED = (
    Column("speed", ("why", "ratio", "low", "high"), lambda why, *of: why or format_ratio(*of)),
    Column("memory", "memory_ratio", format_ratio),
    Column("", "verdict", lambda verdict: "" if verdict == compare.NOT_COMPARED else verdict),
)


def print_compared(table: pd.DataFrame) -> None:
    """Print the cases that changed, what was counted, and how to take it."""
    console = Console(highlight=False)
    print_by_size(console, table[compare.has_changed(table)].assign(note=None), COMPARED)
    compared = table["why"] == ""
    console.print(tally(table.loc[compared, "verdict"]) or "No case can be compared.")
    if not compared.all():
        console.print(f"{compare.NOT_COMPARED}: {tally(table.loc[~compared, 'why'])}")
    if compared.any():
        console.print(
            "Speed is the second run's over the first's, each against the baseline in its own "
            "process. "
            f"Of {counted(compared.sum(), 'case')} about 1 in 20 would change by chance alone: "
            f"`{COMMAND} gate` decides."
        )
