"""Report -> the part of it that a repository keeps: REPORT.md and the few figures that it shows.

Those figures have short names, which say what they show and never of which run: a link to one
holds for good.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ..analysis.frame import Slice, lead
from ..analysis.jacobian import HEAVY
from ..common.errors import UserError
from ..store.files import swap
from ..store.runs import plain
from .sections import Subjects
from .subject import Subject

MARK = "<!-- Written by `python -m bench report`; changes are lost. -->"
MOST = 8  # figures that REPORT.md shows
PUBLISHED = ("REPORT.md", "figures")
# The short names, the most telling first; those of other subjects stand between. The first eight of
# which there is a figure are shown.
FIRST = ("jacobian", "time-gradient", "time-step-tall", "time-step-wide", "roofline-step")
LAST = ("memory-gradient", "time-step", "roofline-gradient")


def short_names(others: Iterable[Subject]) -> list[str]:
    """Return the short names that a figure may have, in their order."""
    return [*FIRST, *(name for other in others for name in other.published), *LAST]


def candidates(frame: pd.DataFrame, subjects: Subjects) -> dict[str, str]:
    """Return the stem of the figure that each short name may stand for, in their order.

    Where several runs or machines have one it is that of the slice with the most measured cases,
    in float64 among equals, and so for fits, scaling and trials.
    """
    stems = {part: stem for one in subjects.told for part, stem in one.stems.items()}

    def of(part: Slice | None, kind: str) -> str | None:
        return f"{stems[part]}-{kind}" if part else None

    gradient, step = lead(frame, "gradient"), lead(frame, "step")
    tall, wide = (lead(_of_grid(frame, subjects, grid), "step") for grid in ("tall", "wide"))
    neither = step not in (tall, wide)
    found = {
        "jacobian": of(lead(frame, "gradient", HEAVY), "price"),
        "time-gradient": of(gradient, "time"),
        "time-step-tall": of(tall, "time"),
        "time-step-wide": of(wide, "time"),
        "roofline-step": of(step, "roofline"),
        "memory-gradient": of(gradient, "memory"),
        "time-step": of(step, "time") if neither else None,
        "roofline-gradient": of(gradient, "roofline"),
    }
    for other in subjects.others:
        found |= other.published
    names = short_names(subjects.others)
    return {name: stem for name in names if (stem := found.get(name)) is not None}


def _of_grid(frame: pd.DataFrame, subjects: Subjects, grid: str) -> pd.DataFrame:
    runs = {(one.run.machine.slug, one.name) for one in subjects.told if one.grid == grid}
    keys = zip(frame["machine"], frame["run"], strict=True)
    return frame[np.array([key in runs for key in keys], dtype=bool)]


def refuse_foreign(folder: Path, names: Iterable[str]) -> None:
    """Refuse to replace files and folders of some names that no earlier report wrote.

    Raises:
        UserError: One of them is there, and REPORT.md beside it is not ours.
    """
    report = folder / "REPORT.md"
    ours = report.is_file() and report.read_bytes().startswith(MARK.encode())
    for name in names:
        if not ours and os.path.lexists(folder / name):
            raise UserError(
                f"a report replaces only an earlier report: {plain(folder / name)} is of another "
                "origin; move it away or give another --out"
            )


def publish(report: Path, results: Path, names: Iterable[str]) -> list[Path]:
    """Copy REPORT.md of a report and its figures of short names into a results folder.

    All of it or nothing; they take the place of those of an earlier report. Returns the copies.

    Args:
        report: The folder of the report.
        results: The results folder, on the same disk.
        names: The short names, see `short_names`.

    Raises:
        UserError: What is there is not ours, or the folder cannot be written.
    """
    refuse_foreign(results, PUBLISHED)
    figures = [f"figures/{name}.png" for name in names]
    shown = ["REPORT.md", *(name for name in figures if (report / name).is_file())]
    try:
        with tempfile.TemporaryDirectory(prefix=".published-", dir=report) as work:
            new = Path(work, "new")
            (new / "figures").mkdir(parents=True)
            for name in shown:
                shutil.copyfile(report / name, new / name)
            swap(PUBLISHED, new, results, Path(work, "old"))
    except OSError as error:
        raise UserError(
            f"publishing needs a folder it can write: {plain(results)} is none "
            f"({plain(error.strerror or error)}); what was published stays; free space"
        ) from error
    return [results / name for name in shown]
