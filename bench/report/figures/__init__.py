"""The figures of a report: whatever a module here declares by `@figure` is drawn of a slice."""

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from ...analysis.frame import Facet
from ...store.schema import Run
from ..style import Style, label, styles


@dataclass(frozen=True)
class View:
    """What a figure is drawn from."""

    frame: pd.DataFrame  # the cases of a run
    part: Facet  # the slice of it that is shown
    run: Run  # the run, with the machine and its measured ceilings

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The cases that are shown."""
        return self.part.of(self.frame)

    @cached_property
    def looks(self) -> dict[str, Style]:
        """How each kernel is drawn: the same in every slice of an operation."""
        return styles(self.frame, self.part.operation)

    @property
    def name(self) -> str:
        """The slice in words, for a title."""
        return f"{label(self.part.operation)} ({label(self.part.device)}, {label(self.part.dtype)})"


class Slot(NamedTuple):
    """A place for a figure in REPORT.md, which shows the first few of those that there are."""

    name: str  # that of its file, which says what it shows and never of which run
    rank: float  # the lower, the earlier; figures of other subjects have `OTHERS`
    operation: str  # the operation of the slice that it shows


OTHERS = 6.0
Draw = Callable[[View], Figure | None]


class Kind(NamedTuple):
    """A kind of figure, as `figure` declares it."""

    name: str  # it ends the name of each file
    title: str  # what it shows, below each figure
    draw: Draw  # draws it; None where there is nothing to show
    when: Callable[[pd.DataFrame], bool] = lambda rows: len(rows) > 0  # whether a slice has it
    slots: Sequence[Slot] = ()  # its places in REPORT.md; the page shows every figure
    readme: bool = False  # whether a README may show what the first of these shows


_KINDS: dict[str, Kind] = {}


def figure(name: str, *, title: str, **fields: Any) -> Callable[[Draw], Draw]:
    """Declare a function that draws a slice as a kind of figure, with the fields of `Kind`."""

    def declare(draw: Draw) -> Draw:
        if name in _KINDS:
            raise ValueError(f"a figure's name must be its own; {name!r} is taken; choose another")
        _KINDS[name] = Kind(name, title, draw, **fields)
        return draw

    return declare


@cache
def kinds() -> Mapping[str, Kind]:
    """Return every kind of figure by name, as the modules here declare them."""
    for _, module, _ in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module}")
    return _KINDS
