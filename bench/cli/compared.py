"""What a comparison of two runs shows on a terminal of 80 columns. Needs no torch."""

from __future__ import annotations

from collections import Counter

import pandas as pd
from rich.console import Console

from ..analysis.compare import BASELINE, NOT_COMPARED, ONLY_ONE, has_changed
from ..common.units import counted, format_ratio
from ..report.tables import KERNEL, SIZE, Column, render


def _speed(ratio: float, low: float, high: float, why: str) -> str:
    return why or format_ratio(ratio, low, high)


def _memory(ratio: float, before: float, after: float) -> str:
    """Write what became of the memory: a ratio, or, where that is nearly 1, the difference."""
    if pd.isna(ratio) or before == after:
        return ""
    text = format_ratio(ratio)
    return text if text != format_ratio(1.0) else f"{after - before:+,.0f} B"


_COLUMNS = (
    KERNEL,
    SIZE,
    Column("speed", ("ratio", "low", "high", "why"), _speed),
    Column("memory", ("memory_ratio", "peak_bytes_a", "peak_bytes_b"), _memory),
    Column("", "verdict", lambda verdict: "" if verdict == NOT_COMPARED else verdict),
)


def print_compared(table: pd.DataFrame) -> None:
    """Print the cases that changed, what was counted, and how to take it.

    Of a case that only one of the runs holds there is no more to say than that: it is counted.
    """
    console = Console(highlight=False)
    for part, rows in table[has_changed(table)].groupby(
        ["operation", "device", "dtype"], sort=False
    ):
        console.print(" ".join(map(str, part)), style="italic", markup=False)
        console.print(render(rows, _COLUMNS, to="console"))
    apart = Counter(table["why"])
    for where in ONLY_ONE:
        if apart[where]:
            console.print(f"{where}: {counted(apart[where], 'case')}")
    both = table[~table["why"].isin(ONLY_ONE)]
    console.print(_counts(both))
    if compared := int((both["verdict"] != NOT_COMPARED).sum()):
        console.print(
            "Speed is the second run's over the first's, each against torch.nn in its own process. "
            f"By chance alone about 1 in 20 of {counted(compared, 'case')} would change: "
            "`python -m bench gate` decides."
        )


def _counts(both: pd.DataFrame) -> str:
    """Count what came out of the cases that both runs hold, and why some are not compared."""
    if both.empty:
        return "No case is in both runs."
    verdicts = Counter(both["verdict"])
    why = Counter(both.loc[both["verdict"] == NOT_COMPARED, "why"])
    found = [f"{verdicts[name]} {name}" for name in sorted(verdicts.keys() - {NOT_COMPARED})]
    if why:
        reasons = [
            counted(count, name) if name == BASELINE else f"{count:,} {name}"
            for name, count in sorted(why.items())
        ]
        found.append(f"{verdicts[NOT_COMPARED]:,} {NOT_COMPARED} ({', '.join(reasons)})")
    return ", ".join(found)
