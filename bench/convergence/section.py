"""Convergence runs -> what a report and a README tell of them. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ..common.errors import single_line
from ..common.units import UNKNOWN, counted, format_ratio, format_tick, format_time
from ..report.html import Section
from ..report.markdown import escape, image
from ..report.style import COLOURS, GREY, LINES, add_legend, add_title_and_footer, label
from ..report.subject import Paths, Subject
from ..report.tables import Column, render
from ..stats.estimators import quartiles
from .records import ConvergenceRun

BASELINE = "TorchLinearRegression"
LEAST_EXCESS = 1e-4  # that is drawn: the closed form has none, or less than none


def _time(seconds: Sequence[float]) -> str:
    low, middle, high = quartiles(seconds)
    return format_time(middle, low, high)


def _speedup(trainer: str, ratios: Sequence[float]) -> str:
    if trainer == BASELINE:
        return "baseline"
    return format_ratio(np.median(ratios), min(ratios), max(ratios)) if ratios else UNKNOWN


def _iterations(losses: Sequence[float], seconds: Sequence[float]) -> str:
    return f"{len(losses) - 1:,}" if seconds else UNKNOWN


def _in_words(status: str, reason: object) -> str:
    return f"{status}: {reason}" if isinstance(reason, str) else status  # pandas may make None NaN


SHORT = (
    Column("trainer", "trainer"),
    Column("time to target loss: median (q1–q3)", "seconds", _time),
    Column("speedup vs. torch.nn (range)", ("trainer", "ratios"), _speedup),
)
COLUMNS = (
    *SHORT,
    Column("iterations", ("losses", "seconds"), _iterations),
    Column("one iteration is", "iteration"),
    Column("status", ("status", "reason"), _in_words),
)


def convergence_table(run: ConvergenceRun) -> pd.DataFrame:
    """Return the trainers, the fastest first, those without times last.

    `ratios` are the baseline's seconds over a trainer's, in each process that has both.
    """
    base = next((one.seconds for one in run.results if one.trainer == BASELINE), [])
    frame = pd.DataFrame([one.model_dump() for one in run.results])
    frame["ratios"] = [[a / b for a, b in zip(base, own, strict=False)] for own in frame["seconds"]]
    frame["median_s"] = [quartiles(own)[1] for own in frame["seconds"]]
    return frame.sort_values(["median_s", "trainer"])  # NaN comes last


def convergence_section(run: ConvergenceRun, figure: str | None) -> str:
    """Return the report's part on one run, with its figure if that has a path."""
    changed = " with uncommitted changes" if run.commit_info.dirty else ""
    processes = max((len(one.seconds) for one in run.results), default=0)
    parts = [
        f"### Time to target loss: {escape(run.task)}",
        f"Wall time until the loss on validation rows is within {run.task.tolerance:.0%} of the "
        f"closed form's ({run.closed_form_loss:.4g}), from the same parameters; compilation is not "
        "included. All learn at the rate η but scikit-learn's, which have rates of their own. "
        f"Each process times each trainer {run.task.repeats} times; the median counts.",
        image("Loss above the closed form's against wall time, by trainer", figure),
        render(convergence_table(run), COLUMNS),
        f"Measured on {escape(run.machine)}, commit {escape(run.commit_info.id[:10])}{changed}, "
        f"{counted(processes, 'process')}, threads: {escape(run.settings.get('threads'))}.",
    ]
    return "\n\n".join(part for part in parts if part)


def convergence_figure(run: ConvergenceRun) -> Figure:
    """Draw the excess of each trainer's loss over the closed form's against wall time."""
    figure = Figure(figsize=(8.7, 5), layout="constrained", dpi=110)
    axes = figure.subplots()
    timed = sorted((one for one in run.results if one.seconds), key=lambda one: one.trainer)
    others = [one.trainer for one in timed if one.trainer != BASELINE]
    for one in timed:
        times = quartiles(one.seconds)[1] * np.arange(1, one.iterations + 1) / one.iterations
        excess = np.array(one.losses[1:]) / run.closed_form_loss - 1
        colour, line = "black", "-"
        if one.trainer != BASELINE:
            round_, place = divmod(others.index(one.trainer), len(COLOURS))
            colour, line = COLOURS[place], LINES[round_ % len(LINES)]
        axes.loglog(times, np.maximum(excess, LEAST_EXCESS), color=colour, ls=line, lw=1.6,
                    marker="o", markersize=3, markevery=[-1], label=label(one.trainer))  # fmt: skip
    add_legend(figure, list(axes.lines))
    ticks = [LEAST_EXCESS * 10**power for power in range(0, 10, 2)]
    axes.set_yticks(ticks, [f"≤ {ticks[0]:g}", *(f"{tick:,g}" for tick in ticks[1:])])
    axes.axhline(run.task.tolerance, color=GREY, lw=1, ls=(0, (4, 3)))
    axes.annotate(f"within {run.task.tolerance:.0%}", (0.008, run.task.tolerance),
                  xycoords=("axes fraction", "data"), ha="left", va="top", color=GREY,
                  fontsize=8)  # fmt: skip
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: format_tick(seconds)))
    axes.set_xlabel("wall time (log)")
    axes.set_ylabel("loss ÷ closed form's − 1")
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    commit = run.commit_info
    source = {"machine": run.machine, "commit": commit.id, "dirty": commit.dirty}
    rows = pd.DataFrame([source | {"run": run.datetime}])
    add_title_and_footer(figure, "Time to the loss of the closed form", rows, f"{run.task}; ")
    return figure


def subject(runs: Sequence[ConvergenceRun]) -> Subject:
    """Return what a report tells; it shows the run of the most trainers, in float64."""

    def rank(run: ConvergenceRun) -> tuple[int, bool]:
        return sum(bool(one.seconds) for one in run.results), run.task.dtype == "float64"

    return Subject(
        sections=partial(_sections, runs),
        figures={f"{run.name}-convergence": partial(convergence_figure, run) for run in runs},
        published={"convergence": f"{max(runs, key=rank).name}-convergence"} if runs else {},
        readme={"fit": "\n\n".join(map(_readme, runs)) or "No convergence runs are stored yet."},
    )


def _sections(runs: Sequence[ConvergenceRun], paths: Paths) -> list[Section]:
    return [
        Section(
            f"Convergence on {single_line(machine)}",
            "\n\n".join(
                convergence_section(run, paths.get(f"{run.name}-convergence")) for run in some
            ),
        )
        for machine, some in groupby(runs, key=lambda run: run.machine)
    ]


def _readme(run: ConvergenceRun) -> str:
    table = convergence_table(run)
    timed = table[table["median_s"].notna()]
    return f"{run.task}, on {escape(run.machine)}:\n\n{render(timed, SHORT)}"
