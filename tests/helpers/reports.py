"""What tests of reports share: blank figures, what a folder holds, what a text links to."""

import errno
import os
import re
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from bench.overhead import section
from bench.report import figures
from bench.report.style import in_style


def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing of the figures, which has tests of its own."""
    for name, kind in figures.kinds().items():
        blank = kind._replace(draw=_blank)
        monkeypatch.setitem(figures.kinds(), name, blank)
    monkeypatch.setattr(section, "overhead_figure", _blank)


def _blank(*_: object) -> Figure:
    return Figure(figsize=(1, 1), layout="none")


def full_disk_at(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the so-many-th move of a file or folder."""
    real, done = os.replace, []

    def replace(origin: Any, target: Any) -> None:
        done.append(origin)
        if len(done) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(origin, target)

    monkeypatch.setattr(os, "replace", replace)


def words(figure: Figure) -> str:
    texts = [one for one in figure.findobj(match=Text) if isinstance(one, Text)]
    return "\n".join(text.get_text() for text in texts)


def draw_in_style(kind: figures.Kind, view: figures.View) -> Figure | None:
    return draw(lambda: kind.draw(view))


def draw(make: Callable[[], Figure | None]) -> Figure | None:
    with in_style():
        return make()


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return what a folder holds, by path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def links(text: str) -> list[str]:
    """Return the files that a text links to; links to its own sections have a test of their own."""
    return re.findall(r"\]\(([^)#][^)]*)\)", text)


def render(figure: Figure) -> bytes:
    stream = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(stream, format="png", dpi=40)
    return stream.getvalue()
