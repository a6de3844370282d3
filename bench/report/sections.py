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
from ..store.runs import plain
from ..store.schema import Head, Run
from ..store.shards import elsewhere, sources
from .catalogue import WHAT, history_makes, history_stem, slice_figures
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
from .subject import Make, Paths, Subject


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
    others: Sequence[Subject]
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
    for other in subjects.others:
        found |= other.figures
    return found | history_makes(subjects.chapters)


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
        *(section for other in subjects.others for section in other.sections(paths)),
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


def _history_sections(told: Sequence[Chapter], paths: Paths) -> list[Section]:
    sections = []
    for number, chapter in enumerate(told, 1):
        stems = {what: history_stem(chapter, number, place)
                 for place, what in enumerate(history_figures(chapter), 1)}  # fmt: skip
        shown = {what: paths[stem] for what, stem in stems.items() if stem in paths}
        title = f"History on {plain(chapter.machine)}, {len(chapter.runs)} runs"
        sections.append(Section(title, history_section(chapter, shown)))
    return sections
