"""What a report tells beside its runs, handed in by whoever knows: it names no such subject."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from .html import Section

Make = Callable[[], Figure | None]
Paths = Mapping[str, str]  # of figures, by stem


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
