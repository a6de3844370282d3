"""A declared pair of kernels and the cases of a report -> what it tells of the pair."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ..analysis.frame import Facet, axes_of, facets, lead, threads_of
from ..common.errors import single_line
from ..common.units import UNKNOWN, digits, format_bytes, format_predicted, format_ratio
from ..report import style
from ..report.answers import say, span
from ..report.markdown import render_template
from ..report.sections import facet_stems, name_of
from ..report.subject import Answer, Beside, Heat, Part, Section, Subject
from ..report.tables import SIZE, STATUS, Column, format_held
from ..store.columns import letters
from .pairs import PAIRS, Pair, on_map, overhead

RANK = 1.0  # of its figure in REPORT.md: after the maps of the fastest kernels
WHATS = ("time", "memory")
COLUMNS = (
    SIZE,
    Column("time ratio", ("time_ratio", "time_ratio_low", "time_ratio_high"), format_ratio),
    Column("memory ratio", "memory_ratio", format_ratio),
    Column("predicted", "predicted_memory_ratio", format_ratio),
    Column("peak memory with", "peak_bytes_first", format_bytes),
    Column("predicted with", "predicted_peak_bytes_first", format_predicted),
    Column("peak memory without", "peak_bytes_second", format_bytes),
    STATUS._replace(
        fields=("status", "kernel"),
        format=lambda status, kernel: status if status == "ok" else f"{kernel}: {status}",
    ),
)


def every_subject() -> list[Beside]:
    """Return what a report tells of each declared pair, once it has its cases."""
    return [partial(subject, pair) for pair in PAIRS]


def subject(pair: Pair, frame: pd.DataFrame) -> Subject:
    """Return what a report tells of a pair; no part of its own where nothing has both kernels."""
    rows = overhead(frame, pair)
    stems = {
        part: f"{stem}-{pair.name}"
        for part, stem in facet_stems(frame).items()
        if len(part.of(rows))
    }
    best = lead(frame, pair.operation, lambda some: len(overhead(some, pair)) > 0)
    part = Part(pair.name, pair.label, pair.question, pair.text, (pair.name, pair.of_memory))
    return Subject(
        sections=lambda _: _sections(pair, rows, frame),
        figures={
            stem: partial(overhead_figure, pair, part.of(rows), part.of(frame))
            for part, stem in stems.items()
        },
        captions={
            stem: f"{name_of(part)}, {part.machine}: {pair.caption}" for part, stem in stems.items()
        },
        published={} if best is None else {pair.name: stems[best]},
        readme={pair.name: f"No {pair.operation} is stored yet to draw the {pair.caption} of."},
        rank=RANK,
        part=part if stems else None,
        answer=partial(_answers, pair),
    )


def _answers(pair: Pair, rows: pd.DataFrame) -> Sequence[Answer]:
    known = overhead(rows, pair).dropna(subset="time_ratio")
    if known.empty:
        return ()
    said, more = say("answer_overhead", pair=pair, overhead=known, span=span)
    unit = "the time without it"
    return [Answer(pair.question, span(known["time_ratio"]), unit, said, more, pair.name)]


def _sections(pair: Pair, rows: pd.DataFrame, frame: pd.DataFrame) -> list[Section]:
    found = []
    for (machine, run, threads), some in rows.groupby(["machine", "run", "threads"]):
        body = render_template("overhead", pair=pair, rows=some, columns=COLUMNS)
        where = f"{single_line(machine)}, run {single_line(run)}, {threads_of(some)}"
        of = {"machine": str(machine), "run": single_line(run, 300), "threads": str(threads)}
        heats = [heat for part in facets(some)
                 for heat in _heats(pair, part.of(some), part.of(frame), of)]  # fmt: skip
        found.append(Section(f"{pair.label} overhead: {where}", body, of, heats))
    return found


def _heats(pair: Pair, every: pd.DataFrame, cases: pd.DataFrame, of: dict[str, str]) -> list[Heat]:
    """Return the maps of a slice: of its times, and of its memory."""
    rows, held = on_map(every, pair)
    device, dtype = (str(every[name].iloc[0]) for name in ("device", "dtype"))
    columns = sorted(set(rows["across"]))
    all_axes = str(rows["axes"].iloc[0])
    across, up = (letters(all_axes.split(", "))[axis] for axis in pair.axes)
    found = []
    for what in WHATS:
        cells = rows.set_index(["across", "up"])[[f"{what}_ratio", "status"]]
        found.append(
            Heat(
                caption=f"{what} with ÷ without, at {format_held(held, all_axes)}",
                label=f"{pair.label}, {what} on {device} in {dtype}, run {of['run']}",
                source=f"{style.source_of(cases)}; {device}, {dtype}",
                corner=f"{up} \\ {across}",
                columns=columns,
                rows=[(size, [_cell(cells, (one, size)) for one in columns])
                      for size in sorted(set(rows["up"]))],
                of={**of, "device": device, "dtype": dtype},
            )
        )  # fmt: skip
    return found


def _cell(cells: pd.DataFrame, size: tuple[int, int]) -> tuple[str, int]:
    if size not in cells.index:
        return "not planned", 0
    ratio, status = cells.loc[[size]].iloc[0]
    if not ratio > 0:
        return (UNKNOWN if status == "ok" else str(status)), 0
    return format_ratio(ratio), int(np.clip(6 + 8 * np.log10(ratio), 0, 45))


def overhead_figure(pair: Pair, every: pd.DataFrame, cases: pd.DataFrame) -> Figure:
    """Draw the ratios of a slice over the pair's axes; a hatched cell says why it has none."""
    rows, held = on_map(every, pair)
    failed = rows["status"].map(style.label).replace("ok", "no number")
    width, height = np.clip(
        [3.4 + 1.5 * rows["across"].nunique(), 2.2 + 0.5 * rows["up"].nunique()], [9, 4.2], [24, 16]
    )
    figure, labels = Figure(figsize=(width, height)), style.axis_labels(axes_of(rows))
    for axes, what in zip(figure.subplots(1, 2), WHATS, strict=True):
        ratios = rows[f"{what}_ratio"]
        said = ratios.map(lambda ratio: f"{digits(ratio)}×").where(ratios > 0, failed)
        cells = rows.assign(ratio=ratios.where(ratios > 0), said=said)
        table = cells.pivot(index="up", columns="across", values=["ratio", "said"])
        _draw_cells(axes, table.fillna({"said": "not planned"}))
        axes.set(xlabel=labels[pair.axes[0]], ylabel=labels[pair.axes[1]])
        axes.set_title(f"{what}: {pair.kernel} ÷ {pair.over}")
    others = len(every) - len(rows)
    more = f"{others} more sizes in the tables; " if others else ""
    question = f"{pair.question.removesuffix('?')} at {format_held(held, rows['axes'].iloc[0])}?"
    name = style.name_of_slice(Facet(*(cases[name].iloc[0] for name in Facet._fields)))
    style.finish(figure, f"{question} {name}", cases, note=f"{more}{style.HOT}; ")
    return figure


def _draw_cells(axes: Axes, table: pd.DataFrame) -> None:
    """Draw each known `ratio` as a colour, with what is `said` in the cell; hatch the others."""
    ratios, texts = table["ratio"], table["said"].to_numpy()
    values = ratios.to_numpy(dtype=float)
    low, high = pd.Series(values.ravel()).agg(["min", "max"]).fillna(1)
    norm = LogNorm(low, max(high, low * 10))
    axes.grid(False)
    axes.patch.set(facecolor="0.96", edgecolor="0.8", hatch="///", linewidth=0)
    picture = axes.imshow(values, norm=norm, cmap="YlGnBu", aspect="auto", origin="lower")
    axes.set_xticks(range(ratios.shape[1]), [f"{size:,}" for size in ratios.columns])
    axes.set_yticks(range(ratios.shape[0]), [f"{size:,}" for size in ratios.index])
    for (row, column), value in np.ndenumerate(values):
        luminance = np.dot(picture.cmap(norm(value))[:3], (0.3, 0.6, 0.1))
        colour = "white" if np.isfinite(value) and luminance < 0.5 else "black"
        said = str(texts[row, column])
        axes.text(column, row, said, color=colour, ha="center", va="center", fontsize=8)
