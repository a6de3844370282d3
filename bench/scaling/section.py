"""Scaling runs -> what a report tells of them: a table, a figure and a few sentences of each run.

Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from statistics import geometric_mean
from typing import Any

import pandas as pd

from ..common.errors import single_line
from ..common.units import (
    UNKNOWN,
    counted,
    digits,
    format_case,
    format_percent,
    format_ratio,
    format_time,
)
from ..report.html import Section
from ..report.markdown import escape, image
from ..report.subject import Paths, Subject
from ..report.tables import KERNEL, SIZE, Column, render
from ..stats.estimators import quartiles
from .figures import scaling_figure
from .metrics import (
    LinkModel,
    ddp_speedup,
    efficiency,
    fit_link,
    largest_case,
    load_imbalance,
    median,
    optimal_world_size,
    predicted_efficiency,
    prediction_errors,
    speedups,
)
from .records import DDP, PEERS, ScalingResult, ScalingRun


def subject(runs: Sequence[ScalingRun]) -> Subject:
    """Return what a report tells of scaling runs; it shows that of the most cases, strong ones."""

    def rank(run: ScalingRun) -> tuple[int, bool]:
        return sum(one.status == "ok" for one in run.results), run.mode == "strong"

    return Subject(
        sections=partial(_sections, runs),
        figures={f"{run.name}-scaling": partial(scaling_figure, run) for run in runs},
        published={"scaling": f"{max(runs, key=rank).name}-scaling"} if runs else {},
    )


def _sections(runs: Sequence[ScalingRun], paths: Paths) -> list[Section]:
    return [
        Section(
            f"Scaling on {single_line(machine)}",
            "\n\n".join(scaling_section(run, paths.get(f"{run.name}-scaling")) for run in some),
        )
        for machine, some in groupby(runs, key=lambda run: run.machine)
    ]


def scaling_section(run: ScalingRun, figure: str | None) -> str:
    """Return the report's part on one run, with its figure if that has a path."""
    link = fit_link(run)
    rounds = max((len(one.step_s) for one in run.results), default=0)
    changed = " with uncommitted changes" if run.commit_info.dirty else ""
    stopped = " The run was stopped before its end." * (run.settings.get("complete") is False)
    machines = sorted({f"{one.machine} with {counted(one.cores, 'core')}, "
                       f"{counted(one.threads, 'thread')} each" for one in run.ranks})  # fmt: skip
    hosts = counted(len({one.host for one in run.ranks}), "host")
    parts = [
        f"### {run.mode.capitalize()} scaling over {run.world} processes",
        _legend(run),
        image("A step's parts, and the all-reduce against its bytes", figure),
        render(scaling_table(run, link), COLUMNS) if run.results else "",
        _ddp_sentence(run),
        _link_sentences(run, link),
        f"Measured at commit {escape(run.commit_info.id[:10])}{changed}, "
        f"{counted(rounds, 'round')}; {counted(run.world, 'process')} on {hosts}: "
        f"{'; '.join(machines)}.{stopped}",
    ]
    return "\n\n".join(part for part in parts if part)


def _in_words(status: str, reason: object) -> str:
    return f"{status}: {reason}" if isinstance(reason, str) else status  # pandas may make None NaN


def _spread(write: Callable[..., str], values: Sequence[float]) -> str:
    low, middle, high = quartiles(values)
    return write(middle, low, high)


def _vs_ddp(kernel: str, status: str, ratio: tuple[float, float, float] | None) -> str:
    baseline = "baseline" if kernel == DDP and status == "ok" else UNKNOWN
    return format_ratio(*ratio) if ratio else baseline


def _median(seconds: Sequence[float]) -> str:
    return format_time(median(seconds))


COLUMNS = (
    *(KERNEL, Column("dtype", "dtype"), SIZE),
    Column("step: median (q1–q3)", "step_s", partial(_spread, format_time)),
    Column("single process: median (q1–q3)", "single_process_s", partial(_spread, format_time)),
    Column("speedup vs. single process (q1–q3)", "speedups",
           partial(_spread, format_ratio), optional=True),
    Column("efficiency", "efficiency", format_percent),
    Column("predicted efficiency", "predicted", format_percent),
    Column("compute", "compute_max_s", _median),
    Column("all-reduce", "allreduce_s", _median),
    Column("load imbalance (max/min)", "imbalance", format_ratio),
    Column("speedup vs. DDP (95 %)", ("kernel", "status", "vs_ddp"), _vs_ddp),
    Column("status", ("status", "reason"), _in_words),
)  # fmt: skip


def scaling_table(run: ScalingRun, link: LinkModel | None) -> pd.DataFrame:
    """Return every case, by its work and dtype, the fastest kernel first."""

    def place(one: ScalingResult) -> tuple[object, ...]:
        seconds = median(one.step_s) if one.step_s else math.inf
        return math.prod(one.case), one.case, one.dtype, seconds, one.kernel

    def row(one: ScalingResult) -> dict[str, Any]:
        return one.model_dump() | {
            "speedups": speedups(one) if run.mode == "strong" else [],
            "efficiency": efficiency(run, one),
            "predicted": predicted_efficiency(run, one, link) if link else math.nan,
            "imbalance": load_imbalance(one),
            "vs_ddp": ddp_speedup(one),
        }

    return pd.DataFrame(map(row, sorted(run.results, key=place)))


def _legend(run: ScalingRun) -> str:
    strong = run.mode == "strong"
    return (
        "The processes share a batch of m rows, add up their gradients with one all-reduce, and "
        "take the same step. A single process, in the same round, has "
        f"{'all the rows' if strong else 'the rows of one of them'}; efficiency is its time ÷ "
        f"{f'({run.world} × the step)' if strong else 'the step'}, the median over rounds. "
        "*Compute* is what the slowest rank does by itself, *all-reduce* what a step takes beyond "
        "it, *load imbalance* the slowest rank's compute ÷ the fastest's; they are timed beside "
        "the step and need not add up to it. *Speedup vs. DDP*, PyTorch's "
        "DistributedDataParallel, is from neighbouring slices of each round."
    )


def _ddp_sentence(run: ScalingRun) -> str:
    found = [
        (ratio[0], one)
        for one in run.results
        if one.kernel not in PEERS and (ratio := ddp_speedup(one)) is not None
    ]
    if not found:
        return ""
    least, worst = min(found, key=lambda pair: pair[0])
    mean = geometric_mean(ratio for ratio, _ in found)
    return (
        f"Over {counted(len(found), 'step')} of our own kernels, they are {format_ratio(mean)} as "
        f"fast as DDP in the geometric mean, and {format_ratio(least)} at least "
        f"({escape(worst.kernel)} at {format_case(*worst.case)} in {worst.dtype})."
    )


def _link_sentences(run: ScalingRun, link: LinkModel | None) -> str:
    if link is None:
        return "Too few all-reduces were measured by themselves to fit a model of the link."
    bandwidth = f"{digits(1e-9 / link.s_per_byte)} GB/s" if link.s_per_byte else "not measurable"
    sentences = [
        "*Predicted efficiency* is that of one process's compute, divided without loss, and a ring "
        "all-reduce of s bytes over P processes that takes T(P, s) = 2(P−1)·α + 2(P−1)/P · s·β "
        "(Hockney's model; Thakur, Rabenseifner, Gropp 2005). Fitted to the all-reduces by "
        f"themselves: α = {format_time(link.latency_s)} a message, 1/β is {bandwidth}."
    ]
    errors = prediction_errors(run, link).abs()
    if len(errors):
        sentences.append(
            f"Over {counted(len(errors), 'step')} of our own kernels the prediction is off by "
            f"{format_percent(errors.median())} in the median and {format_percent(errors.max())} "
            "at most."
        )
    fastest = largest_case(run, own=True)[:1] if run.mode == "strong" else []
    for one in fastest:
        best = optimal_world_size(one, link)
        if math.isfinite(best):
            sentences.append(
                f"On this link, and with a core for each process, the predicted optimal world size "
                f"of {escape(one.kernel)} at {format_case(*one.case)} in {one.dtype} is "
                f"{best:,.0f}."
            )
    return " ".join(sentences)
