"""What a report shows on a terminal of 80 columns. Needs no torch."""

from __future__ import annotations

from collections import Counter

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.comparing import ALIKE, UNKNOWN
from bench.tables import SIZES
from bench.units import format_case, format_ratio


def print_compared(table: pd.DataFrame) -> None:
    """Print the cases that moved or cannot be compared, what was counted, and how to take it."""
    console = Console()
    shown = Table("kernel", box=None, header_style="bold", padding=(0, 1, 0, 0))
    shown.add_column("case", overflow="fold")
    for name in ("speed", "memory"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("")
    for _, row in table.iterrows():
        memory = row["memory_ratio"]
        same_memory = pd.isna(memory) or memory == 1
        if row["said"] in (ALIKE, UNKNOWN) and same_memory and row["status_a"] == row["status_b"]:
            continue
        said = row["said"]
        if row["status_a"] != row["status_b"]:
            said = f"{row['status_a']} → {row['status_b']}"
        shown.add_row(
            escape(str(row["kernel"])),
            f"{row['stage']} {row['dtype']} {format_case(*(row[size] for size in SIZES))}",
            "–" if pd.isna(row["ratio"]) else format_ratio(row["ratio"], row["low"], row["high"]),
            "" if same_memory else format_ratio(memory),
            escape(said),
        )
    if shown.row_count:
        console.print(shown)
    counts = Counter(table["said"])
    console.print(", ".join(f"{counts[name]} {name}" for name in sorted(counts)), highlight=False)
    console.print(
        f"Speed is the second run's over the first's, each against torch.nn in its own process. At "
        f"95 % each, about {(len(table) - counts[UNKNOWN]) / 20:.0f} of them move by chance: "
        "`python -m bench gate` decides.",
        highlight=False,
    )
