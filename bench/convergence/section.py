"""Convergence runs -> what a report and a README tell of them. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ..common.errors import single_line
from ..common.units import UNKNOWN, counted, format_ratio, format_tick, format_time
from ..report.html import Section
from ..report.markdown import escape, image, markdown_table
from ..report.style import COLOURS, GREY, LINES, add_legend, add_title_and_footer, label
from ..report.subject import Paths, Subject
from .records import ConvergenceRun, TrainerResult

BASELINE = "TorchLinearRegression"
LEAST_EXCESS = 1e-4  # that is drawn: the closed form has none, or less than none
Cell = Callable[[TrainerResult, TrainerResult | None], str]  # of a trainer, and of the baseline


def speedups(base: TrainerResult, one: TrainerResult) -> np.ndarray:
    """Return, of each process, the baseline's seconds over a trainer's."""
    both = min(len(base.seconds), len(one.seconds))
    quotients: np.ndarray = np.array(base.seconds[:both]) / np.array(one.seconds[:both])
    return quotients


def _time(one: TrainerResult, _: TrainerResult | None) -> str:
    return format_time(*pd.Series(one.seconds, dtype=float).quantile([0.5, 0.25, 0.75]))


def _speedup(one: TrainerResult, base: TrainerResult | None) -> str:
    if one is base:
        return "baseline"
    found = speedups(base, one) if base else np.array([])
    return format_ratio(np.median(found), found.min(), found.max()) if len(found) else UNKNOWN


def _iterations(one: TrainerResult, _: TrainerResult | None) -> str:
    return f"{one.iterations:,}" if one.seconds else UNKNOWN


SHORT: tuple[tuple[str, Cell], ...] = (
    ("trainer", lambda one, _: one.trainer),
    ("time to target loss: median (q1–q3)", _time),
    ("speedup vs. torch.nn (range)", _speedup),
)
COLUMNS: tuple[tuple[str, Cell], ...] = (
    *SHORT,
    ("iterations", _iterations),
    ("one iteration is", lambda one, _: one.iteration),
    ("status", lambda one, _: one.status if one.reason is None else f"{one.status}: {one.reason}"),
)


def convergence_table(
    run: ConvergenceRun, columns: Sequence[tuple[str, Cell]] = COLUMNS
) -> pd.DataFrame:
    """Return the trainers as text, the fastest first, those without times last.

    A speedup is the median over processes of the quotients within each; its range is in brackets.
    """
    base = next((one for one in run.results if one.trainer == BASELINE), None)
    ordered = sorted(run.results, key=lambda one: (_median_s(one), one.trainer))
    cells = {heading: [cell(one, base) for one in ordered] for heading, cell in columns}
    return pd.DataFrame(cells, dtype=object)


def _median_s(one: TrainerResult) -> float:
    return float(np.median(one.seconds)) if one.seconds else np.inf


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
        markdown_table(convergence_table(run), wide=["status"]),
        f"Measured on {escape(run.machine)}, commit {escape(run.commit_info.id[:10])}{changed}, "
        f"{counted(processes, 'process')}, threads: {escape(run.settings.get('threads'))}.",
    ]
    return "\n\n".join(part for part in parts if part)


def convergence_figure(run: ConvergenceRun) -> Figure:
    """Draw the excess of each trainer's loss over the closed form's against wall time."""
    figure = Figure(figsize=(8.7, 5), layout="constrained", dpi=110)
    axes = figure.subplots()
    place = 0
    for one in sorted(run.results, key=lambda one: one.trainer):
        if not one.seconds:
            continue
        times = _median_s(one) * np.arange(1, one.iterations + 1) / one.iterations
        excess = np.array(one.losses[1:]) / run.closed_form_loss - 1
        colour, line = "black", "-"
        if one.trainer != BASELINE:
            colour, line = COLOURS[place % len(COLOURS)], LINES[place // len(COLOURS) % len(LINES)]
            place += 1
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
    published = {}
    if runs:
        most = max(runs, key=lambda run: (sum(bool(one.seconds) for one in run.results),
                                          run.task.dtype == "float64"))  # fmt: skip
        published["convergence"] = _figure_name(most)
    return Subject(
        sections=partial(_sections, runs),
        figures={_figure_name(run): partial(convergence_figure, run) for run in runs},
        published=published,
        readme={"fit": "\n\n".join(map(_readme, runs)) or "No convergence runs are stored yet."},
    )


def _figure_name(run: ConvergenceRun) -> str:
    return f"{run.name}-convergence"


def _sections(runs: Sequence[ConvergenceRun], paths: Paths) -> list[Section]:
    parts: dict[str, list[str]] = {}
    for run in runs:
        text = convergence_section(run, paths.get(_figure_name(run)))
        parts.setdefault(run.machine, []).append(text)
    return [
        Section(f"Convergence on {single_line(machine)}", "\n\n".join(texts))
        for machine, texts in parts.items()
    ]


def _readme(run: ConvergenceRun) -> str:
    timed = [one for one in run.results if one.seconds]
    table = convergence_table(run.model_copy(update={"results": timed}), SHORT)
    return f"{run.task}, on {escape(run.machine)}:\n\n{markdown_table(table)}"
