"""Stored results -> the generated parts of a README, between its marks."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..analysis.frame import lead
from ..analysis.peers import relative_performance
from ..analysis.ranking import fastest, gradient_overview, spread
from ..common.errors import UserError
from ..store.files import atomic_path
from ..store.runs import single_line
from . import tables
from .figures import kinds
from .markdown import escape, image, render_template
from .sections import name_of, peer_tables, source
from .subject import Subject

_START = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
_END = re.compile(r"^<!-- end: ([\w-]+) -->$", re.MULTILINE)


def readme_blocks(
    frame: pd.DataFrame, figures: str = "results/figures", others: Sequence[Subject] = ()
) -> dict[str, str]:
    """Return the generated parts of a README by name.

    `step`, the fastest step at a few sizes of the run that measured the gradient at the most cases;
    `table`, the fastest kernel and the Jacobian's overhead at a few sizes of each run; `peers`, how
    kernels, `auto`, peers and the roofline bound compare in each; a figure each of the kinds that
    say so; and those of the other subjects.

    Args:
        frame: The cases of the runs.
        figures: The path of the published figures as seen from the README.
        others: The other subjects.
    """
    runs = [run for _, run in frame.groupby(["machine", "run"])]
    with_gradients = [run for run in runs if (run["operation"] == "gradient").any()] or runs
    blocks = {
        "step": _steps(frame),
        "table": "\n\n".join(_overview(run) for run in with_gradients),
        "peers": "\n\n".join(filter(None, map(_peers, runs))),
    }
    for kind in kinds().values():
        if "readme" in kind.where:
            slot = kind.slots[0]
            part = lead(frame, slot.operation, kind.when)
            text = part and image(
                escape(f"{name_of(part)}: {kind.title}"), f"{figures}/{slot.name}.png"
            )
            blocks[kind.name] = (
                text or f"No {slot.operation} is stored yet to draw {kind.title} of."
            )
    for other in others:
        blocks |= other.readme
    return blocks


def check_readme(readme: Path, others: Sequence[Subject] = ()) -> None:
    """Refuse a README that `update_readme` could not renew.

    Raises:
        UserError: It is unreadable, its marks are not in order, or one names no block.
    """
    kind_names = [kind.name for kind in kinds().values() if "readme" in kind.where]
    names = ["step", "table", "peers", *kind_names]
    _marked(_read(readme), readme, [*names, *(name for one in others for name in one.readme)])


def update_readme(
    readme: Path, frame: pd.DataFrame, figures: str = "results/figures",
    others: Sequence[Subject] = (),
) -> bool:  # fmt: skip
    """Put the generated blocks between their marks in a README; say whether that changed it.

    Raises:
        UserError: The README is unreadable or unwritable, or its marks are not in order.
    """
    text, blocks, found = _compared(Path(readme), frame, figures, others)
    parts, place = [], 0
    for name, start, end in found:
        parts += [text[place:start], blocks[name]]
        place = end
    new = "".join([*parts, text[place:]])
    if new != text:
        _replace(Path(readme), new)
    return new != text


def stale_blocks(
    readme: Path, frame: pd.DataFrame, figures: str = "results/figures",
    others: Sequence[Subject] = (),
) -> list[str]:  # fmt: skip
    """Return the names of a README's generated blocks that differ from what the frame says.

    Raises:
        UserError: The README is unreadable, or its marks are not in order.
    """
    text, blocks, found = _compared(Path(readme), frame, figures, others)
    return [name for name, start, end in found if text[start:end] != blocks[name]]


def _compared(
    readme: Path, frame: pd.DataFrame, figures: str, others: Sequence[Subject]
) -> tuple[str, dict[str, str], list[tuple[str, int, int]]]:
    """Return a README's text, the blocks that it should have, and where they are."""
    text, blocks = _read(readme), readme_blocks(frame, figures, others)
    return text, {k: f"\n{v}\n" for k, v in blocks.items()}, _marked(text, readme, list(blocks))


def _steps(frame: pd.DataFrame) -> str:
    """Return the table of steps of the gradient's run; of the most steps where that has none."""
    gradient = lead(frame, "gradient")
    part = gradient and gradient._replace(operation="step", dtype="float64")
    if part is None or not (part.of(frame)["status"] == "ok").any():
        part = lead(frame, "step")
    if part is None:
        return "No step is stored yet."
    return _measured(spread(fastest(part.of(frame))), tables.STEPS, part.of(frame))


def _overview(rows: pd.DataFrame) -> str:
    table = gradient_overview(rows)
    if table.empty:
        return f"{source(rows)}: no gradient has a time."
    return _measured(table, tables.OVERVIEW, rows)


def _measured(table: pd.DataFrame, columns: Sequence[tables.Column], rows: pd.DataFrame) -> str:
    return f"{tables.render(table, columns)}\n\nMeasured on {source(rows)}."


def _peers(rows: pd.DataFrame) -> str:
    said = render_template("peers", peers=peer_tables(relative_performance(rows)))
    return f"{said}\n\nMeasured on {source(rows)}." if said else ""


def _read(readme: Path) -> str:
    try:
        return readme.read_bytes().decode()
    except (OSError, ValueError) as error:
        raise UserError(
            f"a README must be readable UTF-8 text: {single_line(readme)} is not "
            f"({single_line(error, 100)}); give another"
        ) from error


def _replace(readme: Path, text: str) -> None:
    try:
        with atomic_path(readme) as unfinished:
            unfinished.write_bytes(text.encode())
            shutil.copymode(readme, unfinished)
    except OSError as error:
        raise UserError(
            f"a README must be writable: {single_line(readme)} is not "
            f"({single_line(error, 100)}); it is as it was; free space or check its rights"
        ) from error


def _marked(text: str, readme: Path, blocks: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return name, start and end of what stands between the marks."""
    starts, ends = list(_START.finditer(text)), list(_END.finditer(text))
    found = [(one[1], one.end(), other.start()) for one, other in zip(starts, ends, strict=False)]
    names = [one[1] for one in starts]
    edges = [edge for _, start, end in found for edge in (start, end)]
    matched = names == [one[1] for one in ends] and edges == sorted(edges)
    if not names or not matched or len(set(names)) < len(names):
        raise UserError(
            "a README must have each block once, as `<!-- generated: NAME -->` … `<!-- end: NAME "
            f"-->` on lines of their own: {single_line(readme)} has not; put its marks in order"
        )
    if unknown := sorted(set(names) - set(blocks)):
        raise UserError(
            f"a README's generated blocks are {', '.join(blocks)}: {single_line(readme)} has "
            f"{single_line(', '.join(unknown))}; rename or remove it"
        )
    return found
