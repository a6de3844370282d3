"""What a report is made of; what it tells beside its runs is handed in, and it names no subject."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from ..common.errors import single_line
from .markdown import Markdown

OTHERS = 6.0  # the place in REPORT.md of figures that are not of runs
Make = Callable[[], Figure | None]  # which can be pickled, to be drawn by another process
Paths = Mapping[str, str]  # of figures, by stem


class Heat(NamedTuple):
    """A map of ratios over two axes, as a table of colours."""

    caption: str
    label: str  # what it is for those who do not see it
    source: str  # where its numbers come from
    corner: str  # the names of its axes
    columns: Sequence[int]
    # The sizes along the other axis; at each column a text, and its colour's strength in per cent.
    rows: Sequence[tuple[int, Sequence[tuple[str, int]]]]
    of: Mapping[str, str]  # what it is of among what the page chooses by, such as `device`


class Section(NamedTuple):
    """A part of a report."""

    title: str  # its heading, as text
    body: str  # what it says, as Markdown, in which its figures are
    of: Mapping[str, str] = {}  # what it is of among what the page chooses by
    heats: Sequence[Heat] = ()


class Part(NamedTuple):
    """A part of the page, and of REPORT.md, that a subject has for itself."""

    name: str  # its id
    label: str  # in the page's bar
    title: str  # the question that it answers
    text: str  # what it opens with, as Markdown
    shown: tuple[str, ...]  # the short names of the figures that it has in REPORT.md


class Answer(NamedTuple):
    """One of the answers that a report opens with."""

    question: str
    figure: str  # of merit: what is written large
    unit: str  # what it is of, beside it
    said: Markdown  # the sentence below it
    more: Markdown = Markdown()  # what a second look is for
    section: str = "more"  # the part of the page that tells more, by its id


@dataclass(frozen=True)
class Subject:
    """One subject of a report."""

    sections: Callable[[Paths], Sequence[Section]]  # returns its sections
    figures: Mapping[str, Make] = field(default_factory=dict)  # how to draw each of its figures
    # The stem of the figure that REPORT.md shows, by the short name of the figure.
    published: Mapping[str, str] = field(default_factory=dict)
    readme: Mapping[str, str] = field(default_factory=dict)  # its parts of a README
    answers: Sequence[Answer] = ()  # that a report opens with, beside those of its runs
    rank: float = OTHERS  # of its figures in REPORT.md, among those of the runs
    captions: Mapping[str, str] = field(default_factory=dict)  # what its figures show, by stem
    part: Part | None = None  # where it has one for itself; else it is among the others
    # Returns its answers for some cases that a report answers for together.
    answer: Callable[[pd.DataFrame], Sequence[Answer]] = lambda rows: ()


# What is told beside runs, and of the cases that a report shows: made of these if it is a function.
Beside = Subject | Callable[[pd.DataFrame], Subject]


def subjects(others: Sequence[Beside], frame: pd.DataFrame) -> list[Subject]:
    """Return the subjects of a report on some cases."""
    return [one if isinstance(one, Subject) else one(frame) for one in others]


def subject_of(
    kind: str,
    runs: Sequence[Any],
    write: Callable[[Any, str | None], str],
    draw: Callable[[Any], Figure | None],
    preferred: Callable[[Any], bool],
) -> Subject:
    """Return what a report tells of stored results: of each a part with a figure, by machine.

    Those of a machine follow each other. REPORT.md shows the figure of the one with the most cases
    that are ok, among equals of one that is preferred.
    """

    def rank(run: Any) -> tuple[int, bool]:
        return sum(one.status == "ok" for one in run.results), preferred(run)

    def sections(paths: Paths) -> list[Section]:
        return [
            Section(
                f"{kind.capitalize()} on {single_line(machine)}",
                "\n\n".join(write(run, paths.get(f"{run.name}-{kind}")) for run in some),
            )
            for machine, some in groupby(runs, key=lambda run: run.machine)
        ]

    return Subject(
        sections=sections,
        figures={f"{run.name}-{kind}": partial(draw, run) for run in runs},
        published={kind: f"{max(runs, key=rank).name}-{kind}"} if runs else {},
    )


def figure_name(kind: str, operation: str) -> str:
    """Return the short name of the figure of a kind on an operation, which holds for every run."""
    return f"{kind}-{safe(operation)}"


def safe(name: str) -> str:
    """Return a name that a file can have anywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:150]
