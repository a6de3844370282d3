"""Frame -> figure: time and memory against each size, and the price of the Jacobian.

Every function is pure and returns a figure that nobody else holds.
"""

from collections import Counter

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...analysis.frame import Slice
from ...analysis.jacobian import HEAVY, LIGHT, jacobian_price, price_at_one_batch
from ...common.units import digits, format_byte_tick, format_bytes, format_tick
from ..style import (
    FAILED,
    GREY,
    Panel,
    Style,
    entry,
    failure_entries,
    finish_panel,
    kernel_entries,
    label,
    lay_out,
    panels_of,
    put_frame,
    put_legend,
    share_y,
    styles,
)

_CALLS = {"gradient": "gradient", "step": "training step", "fit": "training"}


def time_figure(frame: pd.DataFrame, part: Slice) -> Figure:
    """Draw the time of one slice against m, n and o on log axes: median, bar from q1 to q3.

    `panels_of` picks the sizes that a panel holds fixed. A case without a time is a mark at the
    top edge, in its kernel's colour.
    """
    rows, looks = part.of(frame), styles(frame, part.stage)
    panels = panels_of(rows)
    figure, every = lay_out(panels, "time of one call: median, q1–q3")
    for axes, panel in zip(every, panels, strict=True):
        _draw_floor(axes, panel)
        for kernel, line in panel.rows[panel.rows["status"] == "ok"].groupby("kernel"):
            _draw_times(axes, line.sort_values(panel.axis), panel.axis, looks[str(kernel)])
        finish_panel(axes, panel)
    most = max(max(Counter(_failed(panel)[panel.axis]).values(), default=0) for panel in panels)
    share_y(every, format_tick, base=10, top=min(0.02 + 0.05 * most, 0.4))
    for axes, panel in zip(every, panels, strict=True):
        _draw_failures(axes, panel, looks, min(0.05, 0.38 / max(most, 1)))
    shown = pd.concat([panel.rows for panel in panels])
    notes = [entry("hardware floor", line=":")] if shown["floor_s"].notna().any() else []
    put_legend(figure, kernel_entries(shown, looks) + notes + failure_entries(shown["status"]))
    put_frame(figure, f"How long does one {_call(part)} take?", rows, _unseen(rows, shown))
    return figure


def memory_figure(frame: pd.DataFrame, part: Slice, memory_bytes: int | None = None) -> Figure:
    """Draw the peak memory of one slice against m, n and o: measured marks on the theory's line.

    A hollow mark is the prediction for a case that was not measured. `memory_bytes`, what the
    machine has, is drawn where predictions come near it.
    """
    rows, looks = part.of(frame), styles(frame, part.stage)
    panels = panels_of(rows)
    figure, every = lay_out(panels, "peak memory of one call beyond its inputs")
    for axes, panel in zip(every, panels, strict=True):
        for kernel, line in panel.rows.groupby("kernel"):
            _draw_memory(axes, line.sort_values(panel.axis), panel.axis, looks[str(kernel)])
        finish_panel(axes, panel)
    shown = pd.concat([panel.rows for panel in panels])
    notes = [entry("measured", "o"), entry("predicted", line="-")]
    if (shown["status"] != "ok").any():
        notes.append(entry("predicted, not measured", "o", hollow=True))
    if memory_bytes and shown["predicted_peak_bytes"].max() > memory_bytes / 10:
        notes.append(entry(f"this machine's {format_bytes(memory_bytes)}", line=":"))
        for axes in every:
            axes.axhline(memory_bytes, color=GREY, linestyle=":", linewidth=1.4)
    share_y(every, format_byte_tick, base=32)
    put_legend(figure, kernel_entries(shown, looks) + notes)
    put_frame(figure, f"How much memory does one {_call(part)} hold?", rows, _unseen(rows, shown))
    return figure


def price_figure(frame: pd.DataFrame, part: Slice) -> Figure:
    """Draw what the Jacobian costs over n × o, in time and in memory, at one batch size.

    The batch size is the one with the most pairs of n and o. A cell without a ratio is hatched
    and says why.
    """
    rows = part.of(frame)
    price = price_at_one_batch(rows)
    shape = price["out_features"].nunique(), price["in_features"].nunique()
    width, height = max(9.0, 3.4 + 1.5 * shape[1]), max(4.2, 2.2 + 0.5 * shape[0])
    figure = Figure(figsize=(min(width, 24), min(height, 16)), layout="constrained", dpi=110)
    for place, (what, column) in enumerate((("time", "time_ratio"), ("memory", "memory_ratio"))):
        axes = figure.add_subplot(1, 2, place + 1)
        _draw_cells(figure, axes, price, column)
        axes.set_title(f"{what}: {HEAVY} ÷ {LIGHT}", fontsize=10)
    batch = f", batch m = {price['batch'].iloc[0]:,}" if len(price) else ""
    others = len(jacobian_price(rows)) - len(price)
    note = f"{others} more at other sizes (see the tables); " if others else ""
    question = "What does forming the Jacobian cost?"
    put_frame(figure, f"{question} ({label(part.device)}, {part.dtype}{batch})", rows, note)
    return figure


def _draw_times(axes: Axes, line: pd.DataFrame, axis: str, look: Style) -> None:
    median = line["median_s"]
    # Quartiles that rounding put on the wrong side of the median are no bar.
    bars = [(median - line["q1_s"]).clip(lower=0), (line["q3_s"] - median).clip(lower=0)]
    axes.errorbar(
        line[axis].to_numpy(),
        median.to_numpy(),
        yerr=np.array([bar.to_numpy() for bar in bars]),
        color=look.colour,
        marker=look.marker,
        linestyle=look.line,
        linewidth=look.width,
        markersize=5,
        capsize=2.5,
        elinewidth=1,
    )


def _draw_floor(axes: Axes, panel: Panel) -> None:
    floor = panel.rows.dropna(subset=["floor_s"]).groupby(panel.axis)["floor_s"].min()
    if len(floor):
        axes.plot(floor.index, floor.to_numpy(), color=GREY, linestyle=":", linewidth=1.4)


def _draw_memory(axes: Axes, line: pd.DataFrame, axis: str, look: Style) -> None:
    theory = line[line["predicted_peak_bytes"] > 0]
    known = line[line["peak_bytes"] > 0]
    missing = theory[theory["status"] != "ok"]
    x, y = theory[axis].to_numpy(), theory["predicted_peak_bytes"].to_numpy()
    axes.plot(x, y, color=look.colour, linestyle=look.line, linewidth=look.width, alpha=0.7)
    for part, column, face in (
        (known, "peak_bytes", look.colour),
        (missing, "predicted_peak_bytes", "white"),
    ):
        axes.plot(
            part[axis].to_numpy(),
            part[column].to_numpy(),
            linestyle="",
            marker=look.marker,
            color=look.colour,
            markerfacecolor=face,
            markersize=6,
        )


def _draw_failures(axes: Axes, panel: Panel, looks: dict[str, Style], step: float) -> None:
    for size, column in _failed(panel).sort_values("kernel").groupby(panel.axis):
        pairs = zip(column["kernel"], column["status"], strict=True)
        for place, (kernel, status) in enumerate(pairs):
            axes.plot(
                [float(str(size))],
                [0.98 - step * place],
                transform=axes.get_xaxis_transform(),
                linestyle="",
                marker=FAILED[status][0],
                color=looks[kernel].colour,
                markersize=7,
                markeredgewidth=1.8,
                clip_on=False,
            )


def _failed(panel: Panel) -> pd.DataFrame:
    return panel.rows[panel.rows["status"] != "ok"]


def _unseen(rows: pd.DataFrame, shown: pd.DataFrame) -> str:
    # No case that failed goes unsaid, even where no panel passes through it.
    count = int((rows["status"].ne("ok") & ~rows.index.isin(shown.index)).sum())
    return f"{count} more without a number off these axes (see the tables); " if count else ""


def _call(part: Slice) -> str:
    return f"{_CALLS.get(part.stage, label(part.stage))} ({label(part.device)}, {part.dtype})"


def _draw_cells(figure: Figure, axes: Axes, price: pd.DataFrame, column: str) -> None:
    axes.set_xlabel("in features n")
    axes.set_ylabel("out features o")
    across, up = (sorted(set(price[name])) for name in ("in_features", "out_features"))
    if not across:
        axes.set(xticks=[], yticks=[])
        text = f"no case has both {HEAVY} and {LIGHT}"
        axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=GREY)
        return
    cells = {(n, o): (ratio, status) for n, o, ratio, status in _cells(price, column)}
    grid = np.array([[cells.get((n, o), (np.nan, ""))[0] for n in across] for o in up])
    _colour_cells(figure, axes, grid)
    size = float(np.clip(60 / max(grid.shape), 5, 10))
    for row, o in enumerate(up):
        for place, n in enumerate(across):
            _, status = cells.get((n, o), (np.nan, "not planned"))
            _annotate(axes, grid, (row, place), status, size)
    axes.set_xticks(range(len(across)), [f"{value:,}" for value in across])
    axes.set_yticks(range(len(up)), [f"{value:,}" for value in up])


def _cells(price: pd.DataFrame, column: str) -> list[tuple[int, int, float, str]]:
    status = price["status"].where(price["status"] != "ok", "no number")
    return list(
        zip(price["in_features"], price["out_features"], price[column], status, strict=True)
    )


def _colour_cells(figure: Figure, axes: Axes, grid: np.ndarray) -> None:
    known = grid[np.isfinite(grid) & (grid > 0)]
    low, high = (known.min(), known.max()) if known.size else (1.0, 10.0)
    norm = LogNorm(low, max(high, low * 10))
    axes.set(xlim=(-0.5, grid.shape[1] - 0.5), ylim=(-0.5, grid.shape[0] - 0.5))
    shown = np.ma.masked_invalid(np.where(grid > 0, grid, np.nan))
    image = axes.imshow(shown, norm=norm, cmap="YlGnBu", aspect="auto", origin="lower")
    if known.size:
        bar = figure.colorbar(image, ax=axes, label="times as much", pad=0.02)
        bar.outline.set_visible(False)


def _annotate(
    axes: Axes, grid: np.ndarray, cell: tuple[int, int], status: str, size: float
) -> None:
    row, place = cell
    ratio = grid[row, place]
    if np.isfinite(ratio):
        known = np.log(grid[np.isfinite(grid)])
        dark = np.log(ratio) > known.min() + 0.6 * max(float(np.ptp(known)), np.log(10))
        colour, text = "white" if dark else "black", f"{digits(ratio)}×"
    else:
        colour, text = "0.3", label(status)
        corner = (place - 0.5, row - 0.5)
        hatched = Rectangle(corner, 1, 1, facecolor="0.96", edgecolor="0.8", hatch="///", lw=0)
        axes.add_patch(hatched)
    axes.text(place, row, text, ha="center", va="center", fontsize=size, color=colour)
