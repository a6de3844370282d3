"""Frame -> what a machine's runs say, in five sentences of Markdown. Every function is pure."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..analysis.frame import SIZES, problems
from ..analysis.jacobian import HEAVY, LIGHT, jacobian_price
from ..analysis.peers import LEAST_FLOORS_S, standings
from ..analysis.ranking import fastest
from ..common.units import format_case, format_percent, format_ratio, format_time
from .markdown import escape

# The kind of figure that shows what each sentence says.
SHOWN_BY = ("time", "price", "roofline", "speed", "memory")
_CALLS = ["gradient", "step"]  # a fit is many calls: its floor is that of its products alone
_STAGES = {"gradient": "a gradient", "step": "a training step", "fit": "a training"}


def briefs(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Return five sentences for each machine: what to take, what it costs, what is missing."""
    return {str(machine): brief(rows) for machine, rows in frame.groupby("machine")}


def brief(rows: pd.DataFrame) -> list[str]:
    """Return five sentences on the runs of one machine."""
    stood = standings(rows[rows["stage"].isin(_CALLS)])
    return [_choice(rows), _price(rows), _limit(stood), _others(stood), _missing(rows)]


def _choice(rows: pd.DataFrame) -> str:
    """Say which formulation is the fastest, or cannot be told from it, at how many sizes."""
    best = fastest(rows)
    said = []
    for stage, words in _STAGES.items():
        some = best[best["stage"] == stage]
        if some.empty:
            continue
        near = some["kernel"] + ", " + some["also"]
        counts = near.str.split(", ").explode().loc[lambda name: name != ""].value_counts()
        most = min(counts[counts == counts.max()].index)
        where = (
            "everywhere" if counts[most] == len(some) else f"at {counts[most]:,} of {len(some):,}"
        )
        said.append(f"for {words} {_bold(most)} ({where})")
    if not said:
        return "Which formulation to take is not known: no case has a time."
    kinds = "the sizes and dtypes measured"
    return f"The fastest, or not to be told from it, over {kinds}: {'; '.join(said)}."


def _price(rows: pd.DataFrame) -> str:
    known = jacobian_price(rows).dropna(subset=["time_ratio"])
    if known.empty:
        return (
            f"The price of the Jacobian is not known: {HEAVY} and {LIGHT} have no size in common."
        )
    memory = known["memory_ratio"].dropna()
    held = f" and {_span(memory)} the memory" if len(memory) else ""
    return (
        f"Forming the Jacobian takes {_span(known['time_ratio'])} the time{held} of the product "
        f"that needs none ({HEAVY} against {LIGHT}, {len(known):,} cases)."
    )


def _limit(stood: pd.DataFrame) -> str:
    """Say how near the fastest kernel comes to the floor, where that is more than dispatch."""
    rows = stood[(stood["floor_s"] >= LEAST_FLOORS_S[0]) & stood["efficiency"].notna()]
    if rows.empty:
        return (
            "How near the kernels come to the machine's limit is not known: every floor is small."
        )
    worst = rows.sort_values("efficiency", kind="stable").iloc[0]
    return (
        f"Of what the machine's measured ceilings allow the fastest kernel reaches a median of "
        f"{format_percent(rows['efficiency'].median())}, and "
        f"{format_percent(worst['efficiency'])} at worst ({_bold(worst['kernel'])}, "
        f"{escape(worst['stage'])} of {format_case(*worst[SIZES])} in {escape(worst['dtype'])}), "
        f"over {len(rows):,} cases with a floor of {format_time(LEAST_FLOORS_S[0])} or more."
    )


def _others(stood: pd.DataFrame) -> str:
    """Say how the fastest kernel of our own stands to torch.nn, the peers and `auto`."""
    over = {
        "torch.nn": stood["speedup"],
        "the best of the peers (torch.compile, JAX, NumPy, SciPy)": stood["over_peer"],
    }
    known = {name: ratios.dropna() for name, ratios in over.items() if ratios.notna().any()}
    if not known:
        return "How the kernels stand to others is not known: no case has a ratio."
    said = [
        f"{format_ratio(_mean(ratios))} as fast as {name} ({format_ratio(ratios.min())} at worst, "
        f"{len(ratios):,} cases)"
        for name, ratios in known.items()
    ]
    auto = stood["auto_ratio"].dropna()
    last = f"; `auto` runs at {format_ratio(_mean(auto))} of its speed" if len(auto) else ""
    return f"The fastest kernel of each case is in the geometric mean {' and '.join(said)}{last}."


def _missing(rows: pd.DataFrame) -> str:
    table = problems(rows)
    if table.empty:
        return f"All {len(rows):,} planned cases have numbers."
    counts = table["status"].value_counts().sort_index()
    listed = ", ".join(f"{count:,} {escape(status)}" for status, count in counts.items())
    often = table.groupby(["status", "kernel"]).size().sort_values(ascending=False, kind="stable")
    status, kernel = often.index[0]
    first = table[(table["status"] == status) & (table["kernel"] == kernel)].iloc[0]
    return (
        f"{len(table):,} of {len(rows):,} planned cases have no number ({listed}), most often "
        f"{_bold(kernel)}: {escape(first['reason'])}."
    )


def _mean(ratios: pd.Series) -> float:
    return float(np.exp(np.log(ratios).mean()))


def _span(ratios: pd.Series) -> str:
    low, high = format_ratio(ratios.min()), format_ratio(ratios.max())
    return low if low == high else f"{low} to {high}"


def _bold(name: object) -> str:
    return f"**{escape(name, 60)}**"
