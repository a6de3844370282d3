"""Figures -> PNG files of a report, several at once where processes can fork."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from .style import in_style, save
from .subject import Make

_MAX_PROCESSES = 4


def draw(make: Make, path: Path, packed: bool) -> bool:
    """Draw a figure in the common style, and say whether there is one.

    Args:
        make: Draws it.
        path: Of its file.
        packed: Whether to write it for the page as well, see `packed_path`.
    """
    with in_style():
        figure = make()
        if figure is None:
            return False
        save(figure, path)
    if packed:
        target = packed_path(path)
        target.parent.mkdir(exist_ok=True)
        with Image.open(path) as image:
            # Half the bytes without loss; a higher quality or method takes three times as long for
            # a seventh of them.
            image.convert("RGB").save(target, "WEBP", lossless=True, quality=20, method=1)
    return True


def packed_path(path: Path) -> Path:
    """Return where a figure of a report is once more for its page."""
    return path.parent.parent / "packed" / f"{path.stem}.webp"


def draw_all(makes: Mapping[str, Make], folder: Path) -> list[str]:
    """Draw figures for the page into a folder; return the stems of those that there are."""
    jobs = [(make, folder / f"{stem}.png", True) for stem, make in makes.items()]
    if jobs and _may_fork():
        try:
            workers = min(_MAX_PROCESSES, len(os.sched_getaffinity(0)))
            with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
                drawn = list(pool.map(draw, *zip(*jobs, strict=True)))
            return [stem for stem, there in zip(makes, drawn, strict=True) if there]
        except BrokenProcessPool:  # one was killed, for want of memory say
            pass
    return [stem for stem, job in zip(makes, jobs, strict=True) if draw(*job)]


def _may_fork() -> bool:
    """Say whether more processes are of use, and safe: no library with threads was loaded."""
    if sys.platform != "linux" or {"torch", "jax"} & sys.modules.keys():
        return False
    return len(os.sched_getaffinity(0)) > 1
