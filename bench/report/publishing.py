"""Report -> the part of it that a repository keeps: REPORT.md and the few figures that it shows.

Those figures have short names, which say what they show and never of which run: a link to one
holds for good.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..analysis.frame import lead
from ..common.errors import UserError
from ..store.files import swap
from ..store.runs import single_line
from .figures import OTHERS, Kind, Slot, kinds
from .sections import RunAnalysis
from .subject import Subject

MARK = "<!-- Written by `python -m bench report`; changes are lost. -->"
MAX_FIGURES = 8  # that REPORT.md shows
PUBLISHED = ("REPORT.md", "figures")


def short_names(others: Iterable[Subject]) -> list[str]:
    """Return the short names that a figure may have."""
    return [
        *(slot.name for _, slot in _slots()),
        *(name for one in others for name in one.published),
    ]


def candidates(
    frame: pd.DataFrame, analyses: Sequence[RunAnalysis], others: Iterable[Subject] = ()
) -> dict[str, str]:
    """Return the stem of the figure that each short name may stand for, the first shown first.

    Where several runs or machines have one it is that of the slice with the most measured cases,
    in float64 among equals. None has two names.
    """
    found = [(OTHERS, name, stem) for one in others for name, stem in one.published.items()]
    for kind, slot in _slots():
        part = lead(_of_grid(frame, analyses, slot.grid), slot.operation, kind.when)
        if part is not None:
            stem = next(one.stems[part] for one in analyses if part in one.stems)
            found.append((slot.rank, slot.name, f"{stem}-{kind.name}"))
    names: dict[str, str] = {}
    for _, name, stem in sorted(found, key=lambda one: one[0]):
        if stem not in names.values():
            names[name] = stem
    return names


def _slots() -> Iterator[tuple[Kind, Slot]]:
    for kind in kinds().values():
        if "markdown" in kind.where:
            yield from ((kind, slot) for slot in kind.slots)


def _of_grid(
    frame: pd.DataFrame, analyses: Sequence[RunAnalysis], grid: str | None
) -> pd.DataFrame:
    if grid is None:
        return frame
    runs = {(one.run.machine.slug, one.name) for one in analyses
            if one.run.settings.get("grid") == grid}  # fmt: skip
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
                f"a report replaces only an earlier report: {single_line(folder / name)} is of "
                "another origin; move it away or give another --out"
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
            f"publishing needs a folder it can write: {single_line(results)} is none "
            f"({single_line(error.strerror or error)}); what was published stays; free space"
        ) from error
    return [results / name for name in shown]
