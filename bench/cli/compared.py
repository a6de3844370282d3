"""What a report shows on a terminal of 80 columns. Needs no torch."""

from __future__ import annotations

from collections import Counter

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..analysis.compare import BASELINE, ONLY_ONE, UNKNOWN, moved
from ..analysis.frame import SIZES
from ..common.units import counted, format_case, format_ratio


def print_compared(table: pd.DataFrame) -> None:
    """Print the cases that moved, what was counted, and how to take it.

    Of a case that only one of the runs holds there is no more to say than that: it is counted.
    """
    console = Console()
    rows = table[moved(table)]
    if len(rows):
        console.print(_table(rows))
    apart = Counter(table["why"])
    for where in ONLY_ONE:
        if apart[where]:
            console.print(f"{where}: {counted(apart[where], 'case')}", highlight=False)
    both = table[~table["why"].isin(ONLY_ONE)]
    console.print(_counts(both), highlight=False)
    if compared := int((both["said"] != UNKNOWN).sum()):
        console.print(
            "Speed is the second run's over the first's, each against torch.nn in its own process. "
            f"By chance alone about 1 in 20 of {counted(compared, 'case')} would move: "
            "`python -m bench gate` decides.",
            highlight=False,
        )


def _table(rows: pd.DataFrame) -> Table:
    shown = Table("kernel", box=None, header_style="bold", padding=(0, 1, 0, 0))
    shown.add_column("batch × in → out", overflow="fold")
    for name in ("speed", "memory"):
        shown.add_column(name, justify="right")
    shown.add_column("")
    before = None
    for _, row in rows.iterrows():
        part = f"{row['stage']} {row['device']} {row['dtype']}"
        if part != before:
            shown.add_row(f"[italic]{escape(part)}[/]")
        speed = row["why"] or format_ratio(row["ratio"], row["low"], row["high"])
        shown.add_row(
            f" {escape(str(row['kernel']))}",
            format_case(*(row[size] for size in SIZES)),
            escape(speed),
            _memory(row),
            "" if row["said"] == UNKNOWN else row["said"],
        )
        before = part
    return shown


def _memory(row: pd.Series) -> str:
    """Write what became of the memory: a ratio, or, where that is nearly 1, the difference."""
    ratio, more = row["memory_ratio"], row["peak_bytes_b"] - row["peak_bytes_a"]
    if pd.isna(ratio) or not more:
        return ""
    text = format_ratio(ratio)
    return text if text != format_ratio(1.0) else f"{more:+,.0f} B"


def _counts(both: pd.DataFrame) -> str:
    """Count what came out of the cases that both runs hold, and why some are not compared."""
    if both.empty:
        return "No case is in both runs."
    said, why = Counter(both["said"]), Counter(both.loc[both["said"] == UNKNOWN, "why"])
    found = [f"{said[name]} {name}" for name in sorted(said.keys() - {UNKNOWN})]
    if why:
        reasons = [
            counted(count, name) if name == BASELINE else f"{count:,} {name}"
            for name, count in sorted(why.items())
        ]
        found.append(f"{said[UNKNOWN]:,} {UNKNOWN} ({', '.join(reasons)})")
    return ", ".join(found)
