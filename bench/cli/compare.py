"""Two runs on a terminal: the cases that changed, and a count of those that did not."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from ..analysis import compare
from ..common.errors import UserError
from ..common.units import counted, format_ratio
from ..report.build import Keep
from ..report.tables import KERNEL, SIZE, Column, render
from ..store.runs import load_run, runs_frame


def compare_files(paths: Sequence[Path], keep: Keep) -> None:
    """Print whether the second of two runs is the faster, case by case."""
    if len(paths) != 2:
        raise UserError(f"--compare takes two runs, the earlier first; got {len(paths)}")
    runs = {path: load_run(path) for path in paths}
    if len(machines := sorted({run.machine.slug for run in runs.values()})) > 1:
        raise UserError(
            f"two runs are compared on one machine; these are of {' and '.join(machines)}; "
            "`report` shows machines side by side"
        )
    compare.require_same_settings(runs)
    first, second = (runs_frame([(path, runs[path])]) for path in paths)
    print_compared(compare.compare_runs(keep(first), keep(second)))


_COMPARED = (
    KERNEL,
    SIZE,
    Column("speed", ("why", "ratio", "low", "high"), lambda why, *of: why or format_ratio(*of)),
    Column("memory", "memory_ratio", format_ratio, optional=True),
    Column("", "verdict", lambda verdict: "" if verdict == compare.NOT_COMPARED else verdict),
)


def print_compared(table: pd.DataFrame) -> None:
    """Print the cases that changed, what was counted, and how to take it."""
    console = Console(highlight=False)
    parts = ["operation", "device", "dtype"]
    for part, rows in table[compare.has_changed(table)].groupby(parts, sort=False):
        console.print(" ".join(map(str, part)), style="italic", markup=False)
        console.print(render(rows, _COMPARED, to="console"))
    compared = table["why"] == ""
    console.print(_counts(table.loc[compared, "verdict"]) or "No case can be compared.")
    if not compared.all():
        console.print(f"{compare.NOT_COMPARED}: {_counts(table.loc[~compared, 'why'])}")
    if compared.any():
        console.print(
            "Speed is the second run's over the first's, each against torch.nn in its own process. "
            f"By chance alone about 1 in 20 of {counted(compared.sum(), 'case')} would change: "
            "`python -m bench gate` decides."
        )


def _counts(said: pd.Series) -> str:
    return ", ".join(
        f"{count:,} {text}" for text, count in said.value_counts().sort_index().items()
    )
