"""Convergence runs -> what a report tells of them. Needs no torch."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..common.units import UNKNOWN, format_ratio, format_tick, format_time
from ..report.markdown import render_template
from ..report.style import GREY, finish, label, styles
from ..report.subject import Subject, subject_of
from ..report.tables import OUTCOME, Column, with_quartiles
from ..stats.estimators import quartiles
from .records import ConvergenceRun

BASELINE = "TorchLinearRegression"
LEAST_EXCESS = 1e-4  # that is drawn: the closed form has none, or less than none
TRAINING = "training"  # what the lines of the figure have in common


def _speedup(trainer: str, ratios: Sequence[float]) -> str:
    if trainer == BASELINE:
        return "baseline"
    return format_ratio(np.median(ratios), min(ratios), max(ratios)) if ratios else UNKNOWN


def _iterations(losses: Sequence[float], seconds: Sequence[float]) -> str:
    return f"{len(losses) - 1:,}" if seconds else UNKNOWN


COLUMNS = (
    Column("trainer", "trainer"),
    Column("time to target loss: median (q1–q3)", "seconds", partial(with_quartiles, format_time)),
    Column("speedup vs. torch.nn (range)", ("trainer", "ratios"), _speedup),
    Column("iterations", ("losses", "seconds"), _iterations),
    Column("one iteration is", "iteration"),
    OUTCOME,
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
    return render_template(
        "convergence",
        run=run,
        figure=figure,
        rows=convergence_table(run),
        columns=COLUMNS,
        processes=max((len(one.seconds) for one in run.results), default=0),
    )


def convergence_figure(run: ConvergenceRun) -> Figure:
    """Draw the excess of each trainer's loss over the closed form's against wall time."""
    figure = Figure(figsize=(8.7, 5))
    axes = figure.subplots()
    timed = sorted((one for one in run.results if one.seconds), key=lambda one: one.trainer)
    names = {"kernel": [one.trainer for one in timed], "operation": TRAINING, "baseline": BASELINE}
    looks = styles(pd.DataFrame(names), TRAINING)
    for one in timed:
        iterations = len(one.losses) - 1
        times = quartiles(one.seconds)[1] * np.arange(1, iterations + 1) / iterations
        excess = np.array(one.losses[1:]) / run.closed_form_loss - 1
        look = looks[one.trainer]
        axes.loglog(times, np.maximum(excess, LEAST_EXCESS), color=look.colour, ls=look.line,
                    lw=1.6, marker="o", markersize=3, markevery=[-1],
                    label=label(one.trainer))  # fmt: skip
    entries = list(axes.lines)
    ticks = [LEAST_EXCESS * 10**power for power in range(0, 10, 2)]
    axes.set_yticks(ticks, [f"≤ {ticks[0]:g}", *(f"{tick:,g}" for tick in ticks[1:])])
    axes.axhline(run.task.tolerance, color=GREY, lw=1, ls=(0, (4, 3)))
    axes.annotate(f"within {run.task.tolerance:.0%}", (0.008, run.task.tolerance),
                  xycoords=("axes fraction", "data"), ha="left", va="top", color=GREY,
                  fontsize=8)  # fmt: skip
    axes.xaxis.set_major_formatter(lambda seconds, _: format_tick(seconds))
    axes.set_xlabel("wall time (log)")
    axes.set_ylabel("loss ÷ closed form's − 1")
    title = "Time to the loss of the closed form"
    finish(figure, title, pd.DataFrame([run.source()]), entries, f"{run.task}; ")
    return figure


def subject(runs: Sequence[ConvergenceRun]) -> Subject:
    """Return what a report tells; it shows a run in float64 before others."""
    return subject_of(
        "convergence", runs, convergence_section, convergence_figure,
        lambda run: run.task.dtype == "float64",
    )  # fmt: skip
