"""Figures -> PNG files of a report, each drawn once, and packed for its page."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

from .html import pack
from .style import save
from .subject import Make

_PATIENCE_S = 120  # for the second process, once all else is drawn


class Gallery:
    """The figures of a report, drawn into its folder when they are asked for.

    Attributes:
        makes: How to draw each figure, by its stem.
        paths: The path of each figure that was drawn, from the folder, by stem.
    """

    def __init__(self, folder: Path, makes: Mapping[str, Make], page: bool) -> None:
        """Draw nothing yet.

        Args:
            folder: That of the report, with a folder `figures`.
            makes: How to draw each figure, by its stem.
            page: Whether to pack each for the page.
        """
        self.folder, self.makes, self.page = folder, makes, page
        self.paths: dict[str, str] = {}

    def draw(self, stem: str, name: str | None = None) -> bool:
        """Draw a figure that is not there yet, by its stem or a name; say whether there is one."""
        figure = self.makes[stem]() if stem in self.makes and stem not in self.paths else None
        if figure is not None:
            path = f"figures/{name or stem}.png"
            save(figure, self.folder / path)
            if self.page:
                pack(self.folder, path)
            self.paths[stem] = path
        return stem in self.paths

    def draw_rest(self) -> None:
        """Draw all that is not there yet, half of it in a second process where one can fork."""
        left = [stem for stem in self.makes if stem not in self.paths]
        if _may_fork():
            self._draw_beside(left[1::2], left[::2])
        # What the other process could not do is done here, and says why it cannot be.
        self._draw(stem for stem in left if stem not in self.paths)

    def _draw_beside(self, theirs: Sequence[str], ours: Sequence[str]) -> None:
        """Draw figures here while another process draws others."""
        other = get_context("fork").Process(target=self._draw_quietly, args=(theirs,), daemon=True)
        other.start()
        try:
            self._draw(ours)
            other.join(_PATIENCE_S)
        finally:
            other.kill()  # which does nothing where it has ended
            other.join()
        if other.exitcode == 0:
            there = [(stem, f"figures/{stem}.png") for stem in theirs]
            self.paths |= {stem: path for stem, path in there if (self.folder / path).is_file()}

    def _draw(self, stems: Iterable[str]) -> None:
        for stem in stems:
            self.draw(stem)

    def _draw_quietly(self, stems: Iterable[str]) -> None:
        """Draw in a process of its own, which says by its exit status alone whether it could."""
        done = False
        with suppress(BaseException):
            self._draw(stems)
            done = True
        os._exit(not done)


def _may_fork() -> bool:
    """Say whether a second process is of use, and safe: no library with threads was loaded."""
    if sys.platform != "linux" or {"torch", "jax"} & sys.modules.keys():
        return False
    return len(os.sched_getaffinity(0)) > 1
