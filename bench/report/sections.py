"""What a report has to tell -> its sections, with those of its figures that there are.

The same is told once in REPORT.md, with few figures and every table, and once on the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ..analysis.crossover import crossings
from ..analysis.frame import Slice, slices
from ..analysis.growth import scaling
from ..analysis.peers import standings
from ..convergence.records import Curves, by_machine, curves_section
from ..experiments.gate_power.analysis import Trial, trials_section
from ..scaling.figures import scaling_figures
from ..scaling.records import Scaling
from ..scaling.section import scaling_section
from ..store.runs import plain
from ..store.schema import Head, Run
from ..store.shards import elsewhere, sources
from .catalogue import (
    WHAT,
    Make,
    curves_stem,
    further_figures,
    history_stem,
    scaling_stem,
    slice_figures,
    trials_stem,
)
from .history import Chapter, history_figures, history_section
from .html import Section
from .markdown import (
    crossing_section,
    doubt_section,
    escape,
    figure_section,
    first_call_section,
    growth_section,
    price_section,
    problem_section,
    slice_section,
    standing_section,
)
from .method import method_table

Paths = Mapping[str, str]  # of figures, by stem


class Told(NamedTuple):
    """What is told of one run.

    Attributes:
        rows: Its cases.
        run: The run itself.
        name: That of its file, without the suffix.
        stems: How the names of the files of each slice begin.
        grown: How time and memory grow.
        crossed: Where kernels overtake one another.
        stood: How kernels, peers and floor stand apart.
        found: What it found beyond the numbers of its cases, in Markdown.
    """

    rows: pd.DataFrame
    run: Run
    name: str
    stems: Mapping[Slice, str]
    grown: pd.DataFrame
    crossed: pd.DataFrame
    stood: pd.DataFrame
    found: str

    @property
    def grid(self) -> str:
        """The grid that it was planned by."""
        return str(self.run.settings.get("grid"))


class Subjects(NamedTuple):
    """All that a report tells: of its runs, and beside them."""

    told: Sequence[Told]
    heads: Mapping[Path, Head]
    curves: Sequence[Curves]
    scalings: Sequence[Scaling]
    trials: Mapping[str, Sequence[Trial]]
    chapters: Sequence[Chapter]


def tell(rows: pd.DataFrame, run: Run, name: str, stems: Mapping[Slice, str]) -> Told:
    """Find out what there is to tell of one run."""
    grown, crossed, stood = scaling(rows), crossings(rows), standings(rows)
    parts = [standing_section(stood), first_call_section(rows)]
    parts += [price_section(rows), growth_section(grown), crossing_section(crossed)]
    parts += [doubt_section(rows), problem_section(rows)]
    found = "\n\n".join(part for part in parts if part)
    return Told(rows, run, name, stems, grown, crossed, stood, found)


def figures_of(subjects: Subjects) -> dict[str, Make]:
    """Return how to draw each figure of a report, by its stem."""
    found = {
        f"{one.stems[part]}-{kind}": make
        for one in subjects.told
        for part in slices(one.rows)
        for kind, make in slice_figures(one.rows, part, one.run).items()
    }
    return found | further_figures(
        subjects.curves, subjects.scalings, subjects.trials, subjects.chapters
    )


def run_sections(told: Iterable[Told], paths: Paths, tables: bool) -> list[Section]:
    """Return a section on each run: its figures, with the tables of all its cases or without."""
    sections = []
    for one in told:
        parts = []
        for part in slices(one.rows):
            stem = one.stems[part]
            shown = {text: paths[f"{stem}-{kind}"] for kind, text in WHAT.items()
                     if f"{stem}-{kind}" in paths}  # fmt: skip
            whole = slice_section(one.rows, part, shown) if tables else figure_section(part, shown)
            parts.append(whole)
        title = f"{one.run.machine.slug}, run {plain(one.name)}"
        sections.append(Section(title, "\n\n".join(filter(None, [*parts, one.found]))))
    return sections


def further_sections(subjects: Subjects, paths: Paths) -> list[Section]:
    """Return what is told beside the runs."""
    return [
        *_shard_sections(subjects.heads),
        *_curve_sections(subjects.curves, paths),
        *_scaling_sections(subjects.scalings, paths),
        *_trial_sections(subjects.trials, paths),
        *_history_sections(subjects.chapters, paths),
    ]


def method_sections(told: Iterable[Told]) -> list[Section]:
    """Return how each run was measured."""
    return [
        Section(f"How {plain(one.name)} was measured", method_table(one.run, one.name), closed=True)
        for one in told
    ]


def _shard_sections(heads: Mapping[Path, Head]) -> list[Section]:
    """Return which runs are put together from shards, and which are parts of one."""
    said = [f"* {escape(line, len(line))}." for line in (*sources(heads), *elsewhere(heads))]
    return [Section("Runs in shards", "\n".join(said))] if said else []


def _curve_sections(curves: Sequence[Curves], paths: Paths) -> list[Section]:
    return [
        Section(
            f"Fits on {plain(machine)}",
            "\n\n".join(curves_section(one, paths.get(curves_stem(one))) for one in some),
        )
        for machine, some in by_machine(curves).items()
    ]


def _scaling_sections(scalings: Sequence[Scaling], paths: Paths) -> list[Section]:
    said: dict[str, list[str]] = {}
    for one in scalings:
        stems = {what: scaling_stem(one, what) for what in scaling_figures(one)}
        shown = {what: paths[stem] for what, stem in stems.items() if stem in paths}
        said.setdefault(one.machine, []).append(scaling_section(one, shown))
    return [Section(f"Scaling on {plain(machine)}", "\n\n".join(some))
            for machine, some in said.items()]  # fmt: skip


def _trial_sections(trials: Mapping[str, Sequence[Trial]], paths: Paths) -> list[Section]:
    return [
        Section(
            f"The gate on {plain(name)}", trials_section(some, name, paths.get(trials_stem(name)))
        )
        for name, some in trials.items()
    ]


def _history_sections(told: Sequence[Chapter], paths: Paths) -> list[Section]:
    sections = []
    for number, chapter in enumerate(told, 1):
        stems = {what: history_stem(chapter, number, place)
                 for place, what in enumerate(history_figures(chapter), 1)}  # fmt: skip
        shown = {what: paths[stem] for what, stem in stems.items() if stem in paths}
        title = f"History on {plain(chapter.machine)}, {len(chapter.runs)} runs"
        sections.append(Section(title, history_section(chapter, shown)))
    return sections
