"""What a report is made of; what it tells beside its runs is handed in, and it names no subject."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

Make = Callable[[], Figure | None]  # which can be pickled, to be drawn by another process
Paths = Mapping[str, str]  # of figures, by stem


class Shown(NamedTuple):
    """A figure that is shown.

    Attributes:
        path: Of its file, from the folder of the report.
        text: What it shows, of which cases.
        kind: Which kind of figure it is.
        run: The name of its run, with the machine.
    """

    path: str
    text: str
    kind: str = ""
    run: str = ""

    @property
    def id(self) -> str:
        """Its own name on the page."""
        return figure_id(self.path)


class Section(NamedTuple):
    """A part of a report.

    Attributes:
        title: Its heading, as text.
        body: What it says, as Markdown, in which its figures are.
        figures: Those that the summary may point to.
        closed: Whether a reader of the page opens it first.
    """

    title: str
    body: str
    figures: Sequence[Shown] = ()
    closed: bool = False


@dataclass(frozen=True)
class Subject:
    """One subject of a report.

    Attributes:
        sections: Returns its sections, with those of its figures that have a path.
        figures: How to draw each of its figures, by the stem of its file.
        published: The stem of the figure that REPORT.md shows, by the figure's short name.
        readme: Its parts of a README, by the name of their marks.
    """

    sections: Callable[[Paths], Sequence[Section]]
    figures: Mapping[str, Make] = field(default_factory=dict)
    published: Mapping[str, str] = field(default_factory=dict)
    readme: Mapping[str, str] = field(default_factory=dict)


def figure_id(path: str) -> str:
    """Return what a figure is called on the page, by the path of its file."""
    return f"figure-{Path(path).stem}"


def safe(name: str) -> str:
    """Return a name that a file can have anywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:150]
