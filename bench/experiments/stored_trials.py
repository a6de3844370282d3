"""The trials of an experiment -> their exact rates. Needs no torch."""

from collections.abc import Iterable

import pandas as pd

from ..report.markdown import Markdown, markdown_table, render_template
from ..stats.estimators import share_bound


def rate(found: Iterable[bool]) -> str:
    """Write the share of what is true, with its exact 95 % interval: `3 of 60 (1.0%–13.9%)`."""
    values = list(found)
    count, of = sum(values), len(values)
    low, high = 1 - share_bound(of - count, of, 0.025), share_bound(count, of, 0.025)
    return f"{count} of {of} ({low:.1%}–{high:.1%})" if of else "–"


def rates_of(trials: pd.DataFrame, name: str, rates: pd.DataFrame) -> Markdown:
    """Write a table of rates, and of how many trials, days and commits it is; a row a trial."""
    trials = trials.sort_values("at")
    return render_template(
        "trials",
        name=name,
        count=len(trials),
        days=[*trials["at"].str[:10]],
        commits=", ".join(trials["commit"].dropna().str[:7].drop_duplicates()) or "unknown",
        rates=markdown_table(rates),
    )
