"""Figures -> PNG files of a report, several at once where processes can fork."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from .style import in_style, save
from .subject import Make

_MAX_PROCESSES = 4


def draw(make: Make, path: Path) -> bool:
    """Draw a figure in the common style into a file, and say whether there is one."""
    with in_style():
        figure = make()
        if figure is not None:
            save(figure, path)
    return figure is not None


def draw_all(makes: Mapping[str, Make], folder: Path) -> list[str]:
    """Draw figures into a folder; return the stems of those that there are."""
    jobs = [(make, folder / f"{stem}.png") for stem, make in makes.items()]
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
