"""Frame -> what each run says, in a few points with the figures that show it. Pure functions.

Runs are never pooled: each is of one commit, and several hold the same cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
from scipy.stats import gmean

from ..analysis.frame import FIT, flagged_results, missing_results
from ..analysis.peers import roofline_efficiency
from ..analysis.ranking import fastest
from ..common.units import format_ratio
from .markdown import Markdown, escape, render_blocks
from .sections import RunAnalysis, source

# The kinds of figures that show what each point says; the points are blocks of the template.
SHOWN_BY = {
    "fastest": ("time", "speedup"),
    "jacobian": ("jacobian",),
    "roofline": ("roofline",),
    "comparison": ("speedup", "pareto"),
    "missing": ("memory",),
}


class SummaryPoint(NamedTuple):
    """A sentence that sums up.

    Attributes:
        text: The sentence.
        figures: The kinds of figures that show it.
    """

    text: Markdown
    figures: Sequence[str] = ()


class Summary(NamedTuple):
    """What one run says.

    Attributes:
        run: What the run is called.
        source: Where its numbers come from.
        points: What it found.
    """

    run: str
    source: Markdown
    points: Sequence[SummaryPoint]


def summarise(one: RunAnalysis) -> Summary:
    """Sum up a run: the fastest kernels, the Jacobian's overhead, the limit, others, what lacks."""
    if one.rows.empty:
        nothing = SummaryPoint(Markdown("Nothing was planned."))
        return Summary(one.title, escape(one.title), [nothing])
    calls = one.relative[one.relative["operation"] != FIT]
    missing = missing_results(one.rows)
    texts = render_blocks(
        "points",
        fastest=_fastest(one.rows),
        overhead=one.overhead.dropna(subset=["time_ratio"]),
        span=span,
        roofline=roofline_efficiency(calls)[:1],
        ratios=_ratios(calls),
        mean=gmean,
        flagged=flagged_results(one.rows),
        rows=one.rows,
        measured=int(one.rows["status"].eq("ok").sum()),
        missing=missing,
        statuses=missing["status"].value_counts().sort_index(),
        example=_most_frequent(missing),
    )
    points = [SummaryPoint(text, SHOWN_BY.get(name, ())) for name, text in texts.items()]
    return Summary(one.title, source(one.rows), points)


def span(ratios: pd.Series) -> str:
    """Write from where to where ratios go."""
    low, high = format_ratio(ratios.min()), format_ratio(ratios.max())
    return low if low == high else f"{low} to {high}"


def _fastest(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return of each operation the kernel that is the fastest, or tied with it, at the most sizes.

    Beside it are at how many of how many, and the speedups of the fastest.
    """
    found = []
    every = fastest(rows)
    for operation in rows["operation"].unique():
        if (best := every[every["operation"] == operation]).empty:
            continue
        names = [[kernel, *ties] for kernel, ties in zip(best["kernel"], best["ties"], strict=True)]
        counts = pd.Series(names).explode().value_counts()
        kernel = min(counts[counts == counts.max()].index)
        ahead = best.loc[best["kernel"] != best["baseline"], "speedup"].dropna()
        found.append({"operation": operation, "kernel": kernel, "at": int(counts[kernel]),
                      "of": len(best), "speedup": ahead})  # fmt: skip
    return found


def _ratios(calls: pd.DataFrame) -> dict[str, pd.Series]:
    columns = {"torch.nn": "speedup", "the fastest peer": "speedup_vs_peer", "auto": "auto_vs_best"}
    ratios = {name: calls[column].dropna() for name, column in columns.items()}
    return {name: known for name, known in ratios.items() if len(known)}


def _most_frequent(missing: pd.DataFrame) -> dict[str, Any]:
    """Return one of the failures of the status and kernel that have the most."""
    if missing.empty:
        return {}
    often = missing.groupby(["status", "kernel"])["case"].transform("size")
    return dict(missing.iloc[int(often.argmax())])
