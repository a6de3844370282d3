"""Stored fit curves -> their table, figure and section of a report. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field

from ..common.units import UNKNOWN, format_ratio, format_time
from ..report.markdown import escape, image, markdown_table
from ..report.style import COLOURS, GREY, LINES, label
from ..store.records import load_record, newest
from ..store.schema import Above, Amount, Commit, Name, Size, Slug

BASELINE = "TorchLinearRegression"
LEAST_EXCESS = 1e-4  # that is drawn: the closed form has none, or less than none


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="forbid")


class TaskOf(_Model):
    """What was trained on, and how."""

    rows: Size
    features: Size
    outputs: Size
    dtype: Slug
    lr: Above
    batch_size: Size
    within: Above
    repeats: Size
    seed: int

    def __str__(self) -> str:
        """Write it in words."""
        return (
            f"{self.rows:,} rows, {self.features} → {self.outputs}, {self.dtype}, η = {self.lr:g}, "
            f"mini-batches of {self.batch_size:,}"
        )


class Trained(_Model):
    """One trainer: its losses leg by leg, and the seconds to the target, one for each pass."""

    trainer: Name
    leg: Name
    status: Literal["ok", "not reached", "unsupported", "crashed"]
    reason: Annotated[str, Field(max_length=1000)] | None = None
    losses: list[Amount] = []
    seconds: list[Above] = []

    @property
    def legs(self) -> int:
        """How many legs it took."""
        return len(self.losses) - 1


class Curves(_Model):
    """The fit curves of one data set on one machine."""

    version: Literal[1] = Field(alias="schema")
    datetime: Name
    commit_info: Commit
    machine: Slug
    settings: dict[str, Any]
    packages: dict[str, str]
    task: TaskOf
    closed_form_loss: Above
    target: Above
    trained: list[Trained]

    def of(self, name: str) -> Trained | None:
        """Return what a trainer did, if it was tried."""
        return next((one for one in self.trained if one.trainer == name), None)


def load_curves(path: Path) -> Curves:
    """Read stored fit curves.

    Raises:
        UserError: The file cannot be read, or holds something else.
    """
    is_what = "fit curves are what `python -m bench curves` writes"
    return load_record(path, Curves, "fit curves take", is_what)


def latest_curves(folder: Path) -> list[Curves]:
    """Return the newest curves of each machine and task below a folder, in a fixed order.

    Raises:
        UserError: One of the files cannot be read.
    """
    loaded = [load_curves(path) for path in sorted(folder.rglob("*.json"))]
    return newest(loaded, lambda one: (one.machine, str(one.task)))


def curves_table(curves: Curves) -> pd.DataFrame:
    """Return the trainers as text, the fastest first.

    A ratio to torch.nn's is the median over passes of the quotients within each pass; its range
    over passes is in brackets.
    """
    base = curves.of(BASELINE)
    rows = []
    for one in in_order(curves):
        known = len(one.seconds) > 0
        ratio = ratios(base, one) if base and known else np.array([])
        shown = "baseline" if one is base else UNKNOWN
        if len(ratio) and one is not base:
            shown = format_ratio(float(np.median(ratio)), ratio.min(), ratio.max())
        quartiles: Sequence[float] = (
            np.quantile(one.seconds, [0.5, 0.25, 0.75]).tolist() if known else []
        )
        rows.append(
            {
                "trainer": one.trainer,
                "time to the target: median (q1–q3)": format_time(*quartiles) if known else UNKNOWN,
                "times as fast as torch.nn's (range)": shown,
                "legs": f"{one.legs:,}" if known else UNKNOWN,
                "a leg": one.leg,
                "status": one.status if one.reason is None else f"{one.status}: {one.reason}",
            }
        )
    return pd.DataFrame(rows, dtype=object)


def in_order(curves: Curves) -> list[Trained]:
    """Return the trainers, the fastest first, those without times last."""
    return sorted(curves.trained, key=_place)


def ratios(base: Trained, one: Trained) -> np.ndarray:
    """Return, of each pass, the baseline's seconds over a trainer's."""
    both = min(len(base.seconds), len(one.seconds))
    quotients: np.ndarray = np.array(base.seconds[:both]) / np.array(one.seconds[:both])
    return quotients


def curves_section(curves: Curves, figure: str | None) -> str:
    """Return the report's part on the fit curves of one machine and task; its figure if any."""
    changed = " with uncommitted changes" if curves.commit_info.dirty else ""
    passes = max((len(one.seconds) for one in curves.trained), default=0)
    parts = [
        f"### How long until it fits: {escape(curves.task)}",
        f"Wall time until the loss on validation rows is within {curves.task.within:.0%} of the "
        f"closed form's ({curves.closed_form_loss:.4g}), from the same parameters; what compiles "
        f"has compiled. All learn at the rate η but scikit-learn's, which have rates of their own. "
        f"Each pass is a process of its own and times each trainer {curves.task.repeats} times; "
        f"the median counts.",
        image("Loss above the closed form's against wall time, by trainer", figure),
        markdown_table(curves_table(curves), wide=["status"]),
        f"Measured on {escape(curves.machine)}, commit {escape(curves.commit_info.id[:10])}"
        f"{changed}, {passes} passes, {escape(curves.settings.get('threads'))} threads.",
    ]
    return "\n\n".join(part for part in parts if part)


def curves_figure(curves: Curves) -> Figure:
    """Draw the excess of each trainer's loss over the closed form's against wall time."""
    figure = Figure(figsize=(8, 4.6))
    figure.set_layout_engine("constrained", rect=(0, 0.05, 1, 0.95))
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    place = 0
    for one in sorted(curves.trained, key=lambda one: one.trainer):
        if not one.seconds:
            continue
        middle = float(np.median(one.seconds))
        times = middle * np.arange(1, one.legs + 1) / one.legs
        excess = np.array(one.losses[1:]) / curves.closed_form_loss - 1
        colour, line = "black", "-"
        if one.trainer != BASELINE:
            colour, line = COLOURS[place % len(COLOURS)], LINES[place // len(COLOURS) % len(LINES)]
            place += 1
        shown = np.maximum(excess, LEAST_EXCESS)
        axes.plot(times, shown, color=colour, ls=line, lw=1.6, marker="o",
                  markersize=3, markevery=[-1], label=label(one.trainer))  # fmt: skip
    ticks = [LEAST_EXCESS * 10**power for power in range(0, 10, 2)]
    axes.set_yticks(ticks, [f"≤ {ticks[0]:g}", *(f"{tick:,g}" for tick in ticks[1:])])
    axes.axhline(curves.task.within, color=GREY, lw=1, ls=(0, (4, 3)))
    axes.annotate(f"within {curves.task.within:.0%}", (0.008, curves.task.within),
                  xycoords=("axes fraction", "data"), ha="left", va="top", color=GREY,
                  fontsize=8)  # fmt: skip
    axes.set_xlabel("wall time, s")
    axes.set_ylabel("loss ÷ closed form's − 1")
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("How long until it fits as well as the closed form?", fontsize=13,
                    fontweight="bold", x=0.01, ha="left")  # fmt: skip
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    task = curves.task
    where = (
        f"{curves.machine}, commit {curves.commit_info.id[:10]}: {task.rows:,} rows, "
        f"{task.features} features, {task.outputs} outputs, {task.dtype}, rate {task.lr:g}"
    )
    figure.text(0.99, 0.005, label(where, 150), ha="right", fontsize=7.5, color=GREY)
    return figure


def by_machine(curves: Iterable[Curves]) -> dict[str, list[Curves]]:
    """Return the curves of each machine."""
    found: dict[str, list[Curves]] = {}
    for one in curves:
        found.setdefault(one.machine, []).append(one)
    return found


def _place(one: Trained) -> tuple[bool, float, str]:
    return (not one.seconds, float(np.median(one.seconds)) if one.seconds else 0.0, one.trainer)


def names(curves: Sequence[Curves]) -> list[str]:
    """Return a file name for each: its machine and task."""
    return [
        f"{one.machine}-fit-{one.task.dtype}-{one.task.rows}x{one.task.features}x{one.task.outputs}"
        f"-lr{one.task.lr:g}-batch{one.task.batch_size}-seed{one.task.seed}"
        for one in curves
    ]
