"""What a report has to tell of runs and their history -> the parts of its page and of REPORT.md.

Runs are never pooled.
"""

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import pandas as pd

from ..analysis import frame as frames
from ..analysis import ranking
from ..analysis.compare import History, changed
from ..analysis.frame import (
    Facet,
    axes_of,
    by_size,
    calls,
    facets,
    flagged_results,
    leads,
    missing_results,
)
from ..analysis.sizes import crossovers, growth_exponents
from ..common.errors import single_line
from ..common.units import counted
from ..store.columns import LETTERS
from ..store.schema import Run, flatten_settings
from . import tables
from .figures import View, kinds
from .figures.history import PART, history_figure
from .markdown import Markdown, escape, render_blocks, render_template
from .style import source_of
from .subject import Make, Paths, Section, Subject, safe


class RunAnalysis:
    """What there is to tell of one run's cases with one number of threads."""

    def __init__(self, rows: pd.DataFrame, run: Run, name: str, stems: Mapping[Facet, str]) -> None:
        """Analyse these rows of a run."""
        self.rows, self.run, self.name = rows, run, name
        threads = f", {frames.threads_of(rows)}" if len(rows) else ""
        self.title = f"{run.machine.slug}, run {single_line(name)}{threads}"
        self.source = source_of(rows) if len(rows) else self.title
        self.stems = {part: stems[part] for part in facets(rows) if part in stems}
        self.relative = ranking.relative_performance(rows)
        self.flagged, self.missing = flagged_results(rows), missing_results(rows)
        self.measured = int(rows["status"].eq("ok").sum())
        self.growth, self.crossovers = map(_by_facet, (growth_exponents(rows), crossovers(rows)))
        own = set(rows["fullname"])
        benchmarks = [one for one in run.benchmarks if one.fullname in own]
        self.samples = [sample for one in benchmarks for sample in one.samples]

    @property
    def figures(self) -> dict[str, Make]:
        """How to draw each of its figures, by stem."""
        views = {stem: View(self.rows, part, self.run) for part, stem in self.stems.items()}
        return {
            f"{stem}-{kind.name}": partial(kind.draw, view)
            for stem, view in views.items()
            for kind in kinds().values()
            if kind.when(view.rows)
        }

    @property
    def captions(self) -> dict[str, str]:
        """What each of its figures shows, by stem."""
        return {
            f"{stem}-{kind.name}": f"{name_of(part)}, {part.machine}: "
            + kind.title.format(axes=tables.axes_in_words(axes_of(part.of(self.rows))))
            for part, stem in self.stems.items()
            for kind in kinds().values()
        }

    @cached_property
    def parts(self) -> Mapping[str, Markdown]:
        """What it has to tell, by the names of the blocks of its template; none is empty."""
        blocks = render_blocks(
            "run",
            run=self,
            peers=peer_tables(self.relative),
            first_calls=ranking.slow_first_calls(self.rows),
            conditions=conditions(self.rows),
            settings=flatten_settings(self.run.settings),
        )
        return {name: Markdown(text) for name, text in blocks.items() if text}


def facet_stems(frame: pd.DataFrame) -> dict[Facet, str]:
    """Return a file name for each slice; the run is named where a machine has several."""
    several = frame.groupby("machine")["run"].nunique() > 1
    stems: dict[Facet, str] = {}
    for part in facets(frame):
        named = [part.machine, part.run] if several[part.machine] else [part.machine]
        many = [f"{part.threads}threads"] if part.threads != 1 else []
        stem = safe("-".join([*named, *part[2:5], *many]))
        while stem.lower() in {other.lower() for other in stems.values()}:
            stem += "-2"
        stems[part] = stem
    return stems


def name_of(part: Facet) -> str:
    """Name a slice in words, for where nothing around it says the number of threads."""
    return f"{part.title} with {counted(part.threads, 'thread')}"


def conditions(rows: pd.DataFrame) -> Markdown:
    """Say under what conditions results hold, and what their intervals cover."""
    return render_template("conditions", rows=rows.dropna(subset="processes"))


def measured(rows: pd.DataFrame) -> Markdown:
    """Say where a run's numbers come from, and under what conditions they hold."""
    return Markdown(f"{escape(source_of(rows))}. {conditions(rows)}")


def peer_tables(relative: pd.DataFrame) -> list[tuple[str, *tuple[pd.DataFrame, ...]]]:
    """Return the ratios to others, the efficiency and the cases of an A/A, by operation and device.

    Each number of threads has its own, after another.
    """
    others = relative[relative[["peer_kernel", "auto_kernel"]].notna().any(axis=1)]
    grouped = others.groupby(["operation", "device", "threads"], sort=False)
    return [
        (
            f"{str(operation).capitalize()} on {device}",
            ranking.mean_ratios(rows),
            ranking.roofline_efficiency(rows),
            rows.dropna(subset="a_a"),
        )
        for (operation, device, _), rows in grouped
    ]


def fastest_section(frame: pd.DataFrame) -> Section:
    """Return the fastest kernel at each size, by operation, dtype and number of threads."""
    best = ranking.fastest(calls(frame))
    parts = []
    for (operation, dtype, _), rows in best.groupby(["operation", "dtype", "threads"]):
        alone = facets(rows)[0] if rows["device"].nunique() == 1 else None
        order = ["case", "device", "machine", "run"]
        rows = rows.sort_values(order, kind="stable", key=by_size)
        every = f"{str(operation).capitalize()} in {dtype} with {frames.threads_of(rows)}"
        parts.append((name_of(alone) if alone else every, rows, [*tables.FASTEST, *_apart(rows)]))
    body = render_template("fastest", parts=parts, conditions=conditions(best))
    return Section("Fastest kernel at each size", body)


def title_of(frame: pd.DataFrame) -> str:
    """Return what a report on some cases is about, as its title."""
    if frame.empty or frame["axes"].eq(", ".join(LETTERS)).any():
        return "The gradient of a multi-output linear layer: what was measured"
    operations = ", ".join(single_line(name, 60) for name in frame["operation"].unique())
    return f"{operations}: what was measured"


def headline(frame: pd.DataFrame) -> Markdown:
    """Return a table of the fastest kernel at a few sizes of each operation, dtype and machine."""
    best = ranking.fastest(calls(frame[leads(frame)]))
    apart = ["machine", "device", "threads", "operation", "dtype"]
    groups = [ranking.spread(rows) for _, rows in best.groupby(apart)]
    if not groups:
        return Markdown("No case has a time.")
    rows = pd.concat(groups)
    columns = [tables.WHAT, *tables.FASTEST, *(one for one in _apart(rows) if one != tables.RUN)]
    table: Markdown = tables.render(rows, columns)
    return Markdown(f"{table}\n\n{conditions(rows)}")


def _apart(rows: pd.DataFrame) -> list[tables.Column]:
    return [column for column in tables.APART if rows[column.names[0]].nunique() > 1]


def history_subject(number: int, history: History) -> Subject:
    """Return what a report tells of how speed changed from run to run of one grid."""
    parts: dict[str, Any] = {
        f"{safe(history.machine)}-history-{number}-{place}": list(part)
        for place, (part, _) in enumerate(history.points.groupby(PART, sort=False), 1)
    }
    names = {
        stem: f"{name_of(Facet(history.machine, '', *part))}, {tables.bound_in_words(bound)}"
        for stem, (*part, bound) in parts.items()
    }
    where = f"{single_line(history.machine)}, grid {single_line(history.grid)}"

    def sections(paths: Paths) -> list[Section]:
        body = render_template(
            "history",
            history=history,
            figures=[(name, paths[stem]) for stem, name in names.items() if stem in paths],
            compared=int(history.points["change"].notna().sum()),
            changes=changed(history.points),
        )
        return [Section(f"History on {where}, {len(history.runs)} runs", body)]

    figures = {stem: partial(history_figure, history, part) for stem, part in parts.items()}
    return Subject(sections, figures)


def _by_facet(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(part.title, part.of(table)) for part in (facets(table) if len(table) else ())]
