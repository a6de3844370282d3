"""Trials of the gate -> its error rates, beside those of other tools' rules. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from ...gate.sequential import NO_REGRESSION, ExitStatus
from ...stats.estimators import hodges_lehmann
from .records import GATE, MUTATION, SLOWED, SLOWED_ONE, UNCHANGED


class Rate(NamedTuple):
    """A share of trials, with its exact 95 % interval (Clopper and Pearson)."""

    hits: int
    of: int
    low: float
    high: float

    def __str__(self) -> str:
        """Write it: `3 of 60 (1.0 %-13.9 %)`."""
        return f"{self.hits} of {self.of} ({self.low:.1%}–{self.high:.1%})" if self.of else "–"


def rate(found: Iterable[bool]) -> Rate:
    """Return the share of what is true, with its interval."""
    values = list(found)
    count, of = sum(values), len(values)
    low = special.betaincinv(count, of - count + 1, 0.025) if count else 0.0
    high = special.betaincinv(count + 1, of - count, 0.975) if count < of else 1.0
    return Rate(int(count), of, float(low), float(high))


def false_alarms(rows: pd.DataFrame, *kinds: str) -> Rate:
    """Return how often a trial of some kinds fails a case that was not changed; of one rule."""
    rows = rows[rows["kind"].isin(kinds)]
    return rate((rows["failed"] & ~rows["changed"]).groupby(rows["trial"]).any())


def power(rows: pd.DataFrame, *kinds: str) -> Rate:
    """Return how often a changed case fails in trials of some kinds; of one rule."""
    return rate(rows.loc[rows["kind"].isin(kinds) & rows["changed"], "failed"])


def by_rule(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of each rule, this gate's first, under its name with the tool it is of."""
    groups = rows[rows["kind"] != MUTATION].groupby("rule", sort=False)
    return {
        f"pytest-benchmark {rule}" if ":" in str(rule) else str(rule): own for rule, own in groups
    }


def rates_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a rule: false alarms on unchanged code, and power by size of slow-down."""
    return pd.DataFrame(
        [
            {
                "rule": rule,
                "false alarms, unchanged": str(false_alarms(own, *UNCHANGED)),
                "of them under load": str(false_alarms(own, "a_a_loaded")),
                "false alarms beside a slowed case": str(false_alarms(own, *SLOWED_ONE)),
                **{f"found, {kind}": str(power(own, kind)) for kind in SLOWED},
            }
            for rule, own in by_rule(rows).items()
        ]
    )


def facts(rows: pd.DataFrame) -> list[str]:
    """Say what the table does not: what was slowed by how much, what passed, how long it took."""
    said = []
    gate = rows[rows["rule"] == GATE]
    still = gate[gate["kind"].isin(UNCHANGED)].drop_duplicates("trial")
    if len(still):
        undecided = still["exit_status"].isin([ExitStatus.INCONCLUSIVE, ExitStatus.TOO_NOISY])
        said.append(
            "On unchanged code the gate was inconclusive, or found the machine too noisy, in "
            f"{rate(undecided)}; a verdict took {still['wall_s'].median():.0f} s, nine in ten at "
            f"most {still['wall_s'].quantile(0.9):.0f} s"
        )
    for kind, share in SLOWED.items():
        changed = gate[gate["changed"] & (gate["kind"] == kind)]
        if len(changed):
            logs = changed.explode("log_ratios").dropna(subset="log_ratios").groupby("case")
            slower = logs["log_ratios"].agg(lambda some: math.expm1(hodges_lehmann(list(some))))
            said.append(
                f"{kind}: {share:.0%} was meant, {slower.median():.1%} measured (by case "
                f"{slower.min():.1%} to {slower.max():.1%}); passed as no regression in "
                f"{rate(changed['timing'] == NO_REGRESSION)}"
            )
    return said


def mutations_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a mutation: how often it was found, by what, and how much slower it is."""
    mutated = rows[(rows["rule"] == GATE) & (rows["kind"] == MUTATION)]
    return pd.DataFrame(
        [_mutation(str(name), own) for name, own in mutated.groupby("mutation", sort=False)]
    )


def _mutation(name: str, rows: pd.DataFrame) -> dict[str, str]:
    changed = rows[rows["changed"]]
    logs = changed["log_ratios"].explode().dropna().astype(float).to_list()
    low, high = np.exp(np.quantile(logs, [0.25, 0.75])) if logs else (math.nan, math.nan)
    return {
        "mutation": name,
        "case": str(changed["case"].iloc[-1]),
        "found": f"{int(changed['found_by'].map(bool).sum())} of {len(changed)}",
        "by": ", ".join(sorted(set().union(*changed["found_by"]))),
        "time, head ÷ base": f"{math.exp(hodges_lehmann(logs)):.2f}" if logs else "–",
        "quartiles of blocks": f"{low:.2f}–{high:.2f}" if logs else "–",
        "false alarms": str(false_alarms(rows, MUTATION).hits),
    }
