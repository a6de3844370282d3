"""The figures of a report: whatever a module here declares by `@figure` is drawn of a slice."""

import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from ...analysis.frame import Facet
from ...store.schema import Run
from ..style import Style, name_of_slice, styles


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
        return name_of_slice(self.part)


Draw = Callable[[View], Figure | None]


class Kind(NamedTuple):
    """A kind of figure, as `figure` declares it."""

    name: str  # it ends the name of each file
    title: str  # what it shows, below each figure; `{axes}` are those of its operation
    draw: Draw  # draws it; None where there is nothing to show
    when: Callable[[pd.DataFrame], bool] = lambda rows: len(rows) > 0  # whether a slice has it
    # Its place in REPORT.md, which shows the first few of those that there are: the lower, the
    # earlier. None of those without one.
    rank: float | None = None
    # The operation that it shows first, by its place; the others come after all kinds had one turn.
    # Without one it shows every operation at once.
    first: int | None = None

    def turns(self, operations: Sequence[str]) -> Iterator[tuple[float, str]]:
        """Yield the rank of the figure of each operation in REPORT.md, and the operation."""
        if self.rank is not None:
            for place in range(len(operations)):
                late, begin = (0, 0) if self.first is None else (place, self.first)
                yield self.rank + 10 * late, operations[(begin + place) % len(operations)]


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
