"""What the trials of the gate say, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...common.units import counted
from .analysis import KINDS, Trial, false_alarms, power, rules_of, shown


def print_trials(trials: Sequence[Trial], mutants: pd.DataFrame, said: Sequence[str]) -> None:
    """Print how often each rule fails, which mutants were found, and what else the trials say."""
    console = Console()
    for kind, share in KINDS.items():
        some = [trial for trial in trials if trial["kind"] == kind]
        if not some:
            continue
        title = f"{kind}: {counted(len(some), 'trial')}"
        table = Table(title=title, title_justify="left", box=None)
        for name in ("rule", "false alarms", *(["found"] if share else [])):
            table.add_column(name)
        for rule in rules_of(trials):
            found = [str(power(some, rule))] if share else []
            table.add_row(shown(rule), str(false_alarms(some, rule)), *found)
        console.print(table)
    if len(mutants):
        narrow = mutants.drop(columns=["case", "middle half of blocks"])
        table = Table(*narrow, title="mutants", title_justify="left", box=None)
        for _, row in narrow.iterrows():
            table.add_row(*(escape(cell) for cell in row))
        console.print(table)
    for line in said:
        console.print(line, highlight=False)
