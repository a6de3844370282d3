"""Scaling runs -> what a report tells of them: a table, a figure and a few sentences of each run.

Needs no torch.
"""

import math
from collections.abc import Sequence
from functools import partial
from statistics import geometric_mean
from typing import Any

import pandas as pd

from ..common.units import digits, format_percent, format_ratio, format_time
from ..report.markdown import render_template
from ..report.subject import Subject, subject_of
from ..report.tables import DTYPE, KERNEL, OUTCOME, SIZE, Column, with_quartiles
from .figures import scaling_figure
from .metrics import (
    LinkModel,
    ddp_speedup,
    efficiency,
    fit_link,
    median,
    predicted_efficiency,
    speedups,
)
from .records import DDP, PEERS, ScalingResult, ScalingRun


def subject(runs: Sequence[ScalingRun]) -> Subject:
    """Return what a report tells of scaling runs; it shows that of the most cases, strong ones."""

    def rank(run: ScalingRun) -> tuple[int, bool]:
        return sum(one.status == "ok" for one in run.results), run.mode == "strong"

    return subject_of("scaling", runs, scaling_section, scaling_figure, rank)


def scaling_section(run: ScalingRun, figure: str | None) -> str:
    """Return the report's part on one run, with its figure if that has a path."""
    link = fit_link(run)
    rows = scaling_table(run, link)
    own = rows[~rows["kernel"].isin(PEERS)]
    return render_template(
        "scaling",
        run=run,
        figure=figure,
        rows=rows,
        columns=COLUMNS,
        vs_ddp=own.dropna(subset=["ddp"]).sort_values("ddp"),
        mean=geometric_mean,
        link=link,
        errors=(own["predicted"] / own["efficiency"] - 1).abs().dropna(),
        digits=digits,
        rounds=max((len(one.step_s) for one in run.results), default=0),
        hosts=len({one.host for one in run.ranks}),
        machines={(one.machine, one.cores, one.threads): one for one in run.ranks}.values(),
    )


def _vs_ddp(kernel: str, status: str, *ratio: float) -> str:
    return "baseline" if kernel == DDP and status == "ok" else format_ratio(*ratio)


def _median(seconds: Sequence[float]) -> str:
    return format_time(median(seconds))


COLUMNS = (
    *(KERNEL, DTYPE, SIZE),
    Column("step: median (q1–q3)", "step_s", partial(with_quartiles, format_time)),
    Column("single process: median (q1–q3)", "single_process_s",
           partial(with_quartiles, format_time)),
    Column("speedup vs. single process (q1–q3)", "speedups",
           partial(with_quartiles, format_ratio), optional=True),
    Column("efficiency", "efficiency", format_percent),
    Column("predicted efficiency", "predicted", format_percent),
    Column("compute", "compute_max_s", _median),
    Column("all-reduce", "allreduce_s", _median),
    Column("speedup vs. DDP (95 %)", ("kernel", "status", "ddp", "ddp_low", "ddp_high"), _vs_ddp),
    OUTCOME,
)  # fmt: skip


def scaling_table(run: ScalingRun, link: LinkModel | None) -> pd.DataFrame:
    """Return every case, by its work and dtype, the fastest kernel first."""

    def place(one: ScalingResult) -> tuple[object, ...]:
        seconds = median(one.step_s) if one.step_s else math.inf
        return math.prod(one.case), one.case, one.dtype, seconds, one.kernel

    def row(one: ScalingResult) -> dict[str, Any]:
        ratio, low, high = ddp_speedup(one)
        return one.model_dump() | {
            "speedups": speedups(one) if run.mode == "strong" else [],
            "efficiency": efficiency(run, one),
            "predicted": predicted_efficiency(run, one, link) if link else math.nan,
            "ddp": ratio,
            "ddp_low": low,
            "ddp_high": high,
        }

    fields = ("speedups", "efficiency", "predicted", "ddp", "ddp_low", "ddp_high")
    rows = map(row, sorted(run.results, key=place))
    return pd.DataFrame(rows, columns=[*ScalingResult.model_fields, *fields])
