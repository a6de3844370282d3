"""Stored results -> the generated parts of a README, between its marks."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..analysis.frame import Slice, lead
from ..analysis.jacobian import HEAVY
from ..analysis.peers import standings
from ..analysis.ranking import display_steps, display_summary, summary
from ..common.errors import UserError
from ..store.files import replacing
from ..store.runs import plain
from .catalogue import WHAT
from .markdown import (
    image,
    markdown_table,
    name_of,
    run_summary,
    source,
    standing_tables,
)
from .subject import Subject

BLOCKS = ("summary", "step", "table", "standing", "time", "price", "source")
_START = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
_END = re.compile(r"^<!-- end: ([\w-]+) -->$", re.MULTILINE)


def readme_blocks(
    frame: pd.DataFrame,
    figures: str = "results/figures",
    others: Sequence[Subject] = (),
) -> dict[str, str]:
    """Return the generated parts of a README by name, see `BLOCKS`.

    `summary`, what each run found; `step`, the fastest step at a few sizes of the run that measured
    the gradient at the most cases; `table`, the fastest kernel and the Jacobian's price at a few
    sizes of each; `standing`, how kernels, `auto`, peers and the floor stand apart in each; `time`
    and `price`, a figure each of the gradient that was measured at the most cases; `source`, where
    that figure's numbers come from; and those of the other subjects. `figures` is the path of the
    published figures as seen from the README.
    """
    runs = [run for _, run in frame.groupby(["machine", "run"])]
    gradient = lead(frame, "gradient")
    blocks = {
        "summary": "\n\n".join(run_summary(run) for run in runs),
        "step": _steps(frame, gradient),
        "table": "\n\n".join(_table(run) for run in _with_gradients(runs)),
        "standing": "\n\n".join(_standing(run) for run in runs).strip(),
        "time": _figure(frame, "time", f"{figures}/time-gradient.png"),
        "price": _figure(frame, "price", f"{figures}/jacobian.png"),
        "source": f"Measured on {source(gradient.of(frame))}." if gradient else "",
    }
    for other in others:
        blocks |= other.readme
    lacking = dict.fromkeys(("time", "source"), "No gradient is stored yet.")
    lacking |= {"price": "No Jacobian is stored yet.", "step": "No step is stored yet."}
    return {name: text or lacking.get(name, "") for name, text in blocks.items()}


def check_readme(readme: Path, others: Sequence[Subject] = ()) -> None:
    """Refuse a README that `update_readme` could not renew.

    Raises:
        UserError: It is unreadable, its marks are not in order, or one names no block.
    """
    _marked(_read(readme), readme, others)


def update_readme(
    readme: Path,
    frame: pd.DataFrame,
    figures: str = "results/figures",
    others: Sequence[Subject] = (),
) -> bool:
    """Put the generated blocks between their marks in a README; say whether that changed it.

    Raises:
        UserError: The README is unreadable or unwritable, or its marks are not in order.
    """
    readme = Path(readme)
    text = _read(readme)
    found = _marked(text, readme, others)
    blocks = readme_blocks(frame, figures, others)
    parts, place = [], 0
    for name, start, end in found:
        parts += [text[place:start], f"\n{blocks[name]}\n"]
        place = end
    new = "".join([*parts, text[place:]])
    if new != text:
        _replace(readme, new)
    return new != text


def stale_blocks(
    readme: Path,
    frame: pd.DataFrame,
    figures: str = "results/figures",
    others: Sequence[Subject] = (),
) -> list[str]:
    """Return the names of a README's generated blocks that differ from what the frame says.

    Raises:
        UserError: The README is unreadable, or its marks are not in order.
    """
    readme = Path(readme)
    text = _read(readme)
    found = _marked(text, readme, others)
    blocks = readme_blocks(frame, figures, others)
    return [name for name, start, end in found if text[start:end] != f"\n{blocks[name]}\n"]


def _figure(frame: pd.DataFrame, kind: str, path: str) -> str:
    part = lead(frame, "gradient", HEAVY if kind == "price" else None)
    return image(f"{name_of(part)}: {WHAT[kind]}", path) if part else ""


def _steps(frame: pd.DataFrame, gradient: Slice | None) -> str:
    """Return the table of steps of a gradient's run; of the most steps where that run has none."""
    part = gradient._replace(stage="step", dtype="float64") if gradient else None
    if part is None or not (part.of(frame)["status"] == "ok").any():
        part = lead(frame, "step")
    if part is None:
        return ""
    rows = part.of(frame)
    return f"{markdown_table(display_steps(rows))}\n\nMeasured on {source(rows)}."


def _table(rows: pd.DataFrame) -> str:
    table = summary(rows)
    if table.empty:
        return f"{source(rows)}: no gradient has a time."
    return f"{markdown_table(display_summary(table))}\n\nMeasured on {source(rows)}."


def _with_gradients(runs: Sequence[pd.DataFrame]) -> Sequence[pd.DataFrame]:
    """Return the runs that measured a gradient; all of them where none did."""
    return [run for run in runs if (run["stage"] == "gradient").any()] or runs


def _standing(rows: pd.DataFrame) -> str:
    said = standing_tables(standings(rows))
    return f"{said}\n\nMeasured on {source(rows)}." if said else ""


def _read(readme: Path) -> str:
    try:
        return readme.read_bytes().decode()
    except (OSError, ValueError) as error:
        raise UserError(
            f"a README must be readable UTF-8 text: {plain(readme)} is not "
            f"({plain(error, 100)}); give another"
        ) from error


def _replace(readme: Path, text: str) -> None:
    try:
        with replacing(readme) as unfinished:
            unfinished.write_bytes(text.encode())
            shutil.copymode(readme, unfinished)
    except OSError as error:
        raise UserError(
            f"a README must be writable: {plain(readme)} is not ({plain(error, 100)}); it is "
            "as it was; free space or check its rights"
        ) from error


def _marked(text: str, readme: Path, others: Sequence[Subject]) -> list[tuple[str, int, int]]:
    """Return name, start and end of what stands between the marks."""
    blocks = [*BLOCKS, *(name for other in others for name in other.readme)]
    starts, ends = list(_START.finditer(text)), list(_END.finditer(text))
    found = [(one[1], one.end(), other.start()) for one, other in zip(starts, ends, strict=False)]
    names = [one[1] for one in starts]
    edges = [edge for _, start, end in found for edge in (start, end)]
    matched = names == [one[1] for one in ends] and edges == sorted(edges)
    if not names or not matched or len(set(names)) < len(names):
        raise UserError(
            "a README must have each block once, as `<!-- generated: NAME -->` … `<!-- end: NAME "
            f"-->` on lines of their own: {plain(readme)} has not; put its marks in order"
        )
    unknown = sorted(set(names) - set(blocks))
    if unknown:
        raise UserError(
            f"a README's generated blocks are {', '.join(blocks)}: {plain(readme)} has "
            f"{plain(', '.join(unknown))}; rename or remove it"
        )
    return found
