"""Report -> what a repository keeps of it: REPORT.md, few figures, and parts of a README.

Those figures have short names, which never say of which run: a link to one holds for good.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from ..analysis.frame import lead
from ..analysis.ranking import fastest, gradient_overview, relative_performance, spread
from ..common.errors import UserError, single_line
from ..store.files import atomic_path, swap
from ..store.runs import runs_frame
from . import tables
from .figures import OTHERS, kinds
from .markdown import escape, image, render_template
from .sections import RunAnalysis, name_of, peer_tables, source
from .subject import Subject

MARK = "<!-- Written by `python -m bench report`; changes are lost. -->"
MAX_FIGURES = 8  # that REPORT.md shows
PUBLISHED = ("REPORT.md", "figures")


def candidates(analyses: Sequence[RunAnalysis], others: Iterable[Subject] = ()) -> dict[str, str]:
    """Return the stem of the figure that each short name may show, the first choice first.

    Where several runs or machines have one it is that of the slice with the most measured cases,
    in float64 among equals. None has two names.
    """
    found = [(OTHERS, name, stem) for one in others for name, stem in one.published.items()]
    slots = [(kind, slot) for kind in kinds().values() for slot in kind.slots]
    for kind, slot in slots:
        rows = [one.rows for one in analyses if slot.grid in (None, one.run.settings.get("grid"))]
        part = lead(pd.concat(rows), slot.operation, kind.when) if rows else None
        if part is not None:
            stem = next(one.stems[part] for one in analyses if part in one.stems)
            found.append((slot.rank, slot.name, f"{stem}-{kind.name}"))
    names: dict[str, str] = {}
    for _, name, stem in sorted(found, key=lambda one: one[0]):
        if stem not in names.values():
            names[name] = stem
    return names


@contextmanager
def or_refuse(needs: str, then: str) -> Iterator[None]:
    """Turn a failure to write into one line: what was needed, what came, and what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{needs} ({single_line(error.strerror or error)}); {then}") from error


def refuse_foreign(folder: Path, names: Iterable[str]) -> None:
    """Refuse to replace files and folders of some names that no earlier report wrote."""
    report = folder / "REPORT.md"
    ours = report.is_file() and report.read_bytes().startswith(MARK.encode())
    for name in names:
        if not ours and os.path.lexists(folder / name):
            raise UserError(
                f"a report replaces only an earlier report: {single_line(folder / name)} is of "
                "another origin; move it away or give another --out"
            )


def publish(report: Path, results: Path) -> list[Path]:
    """Copy REPORT.md and the figures that it shows, all or nothing; return the copies."""
    refuse_foreign(results, PUBLISHED)
    text = (report / "REPORT.md").read_text(encoding="utf-8")
    shown = ["REPORT.md", *re.findall(r"\]\((figures/[^)]+)\)", text)]
    needs = f"publishing needs a folder it can write: {single_line(results)} is none"
    with (
        or_refuse(needs, "what was published stays; free space"),
        tempfile.TemporaryDirectory(prefix=".published-", dir=report) as work,
    ):
        new = Path(work, "new")
        (new / "figures").mkdir(parents=True)
        for name in shown:
            shutil.copyfile(report / name, new / name)
        swap(PUBLISHED, new, results, Path(work, "old"))
    return [results / name for name in shown]


_MARKS = re.compile(r"^<!-- (generated|end): ([\w-]+) -->$", re.MULTILINE)
_BLOCK = re.compile(
    r"^(<!-- generated: ([\w-]+) -->)$(.*?)^(<!-- end: \2 -->)$", re.MULTILINE | re.DOTALL
)


def readme_blocks(
    frame: pd.DataFrame, figures: str = "results/figures", others: Sequence[Subject] = ()
) -> dict[str, str]:
    """Return the generated parts of a README by name.

    `step`, the fastest step of the run that measured the most gradients; `table`, the fastest
    kernel and the Jacobian's overhead of each run; `peers`, how others compare; and figures.
    """
    runs = [run for _, run in frame.groupby(["machine", "run"])]
    with_gradients = [run for run in runs if (run["operation"] == "gradient").any()] or runs
    blocks = {
        "step": _steps(frame),
        "table": "\n\n".join(_overview(run) for run in with_gradients),
        "peers": "\n\n".join(filter(None, map(_peers, runs))),
    }
    for kind in kinds().values():
        if kind.readme:
            slot = kind.slots[0]
            part = lead(frame, slot.operation, kind.when)
            blocks[kind.name] = f"No {slot.operation} is stored yet to draw {kind.title} of."
            if part is not None:
                said = escape(f"{name_of(part)}: {kind.title}")
                blocks[kind.name] = image(said, f"{figures}/{slot.name}.png")
    for other in others:
        blocks |= other.readme
    return blocks


def check_readme(readme: Path, others: Sequence[Subject] = ()) -> None:
    """Refuse a README that `update_readme` could not renew."""
    _read(readme, readme_blocks(runs_frame({}), others=others))


def update_readme(
    readme: Path, frame: pd.DataFrame, figures: str = "results/figures",
    others: Sequence[Subject] = (),
) -> bool:  # fmt: skip
    """Put the generated blocks between their marks in a README; say whether that changed it."""
    blocks = readme_blocks(frame, figures, others)
    text = _read(readme, blocks)
    new = _BLOCK.sub(lambda found: f"{found[1]}\n{blocks[found[2]]}\n{found[4]}", text)
    if new != text:
        needs = f"a README must be writable: {single_line(readme)} is not"
        with (
            or_refuse(needs, "it is as it was; free space or check its rights"),
            atomic_path(readme) as unfinished,
        ):
            unfinished.write_bytes(new.encode())
            shutil.copymode(readme, unfinished)
    return new != text


def _steps(frame: pd.DataFrame) -> str:
    gradient = lead(frame, "gradient")
    part = gradient and gradient._replace(operation="step", dtype="float64")
    if part is None or not (part.of(frame)["status"] == "ok").any():
        part = lead(frame, "step")
    if part is None:
        return "No step is stored yet."
    steps = spread(fastest(part.of(frame)))
    return _measured(tables.render(steps, tables.STEPS), part.of(frame))


def _overview(rows: pd.DataFrame) -> str:
    if (table := gradient_overview(rows)).empty:
        return f"{source(rows)}: no gradient has a time."
    return _measured(tables.render(table, tables.OVERVIEW), rows)


def _measured(said: str, rows: pd.DataFrame) -> str:
    return f"{said}\n\nMeasured on {source(rows)}."


def _peers(rows: pd.DataFrame) -> str:
    said = render_template("peers", peers=peer_tables(relative_performance(rows)))
    return _measured(said, rows) if said else ""


def _read(readme: Path, blocks: Iterable[str]) -> str:
    try:
        text = readme.read_bytes().decode()
    except (OSError, ValueError) as error:
        raise UserError(
            f"a README must be readable UTF-8 text: {single_line(readme)} is not "
            f"({single_line(error, 100)}); give another"
        ) from error
    marks = _MARKS.findall(text)
    names = [name for kind, name in marks if kind == "generated"]
    in_order = marks == [(kind, name) for name in names for kind in ("generated", "end")]
    if not names or not in_order or len(set(names)) < len(names):
        raise UserError(
            "a README must have each block once, as `<!-- generated: NAME -->` … `<!-- end: NAME "
            f"-->` on lines of their own: {single_line(readme)} has not; put its marks in order"
        )
    if unknown := sorted(set(names) - set(blocks)):
        raise UserError(
            f"a README's generated blocks are {', '.join(blocks)}: {single_line(readme)} has "
            f"{single_line(', '.join(unknown))}; rename or remove it"
        )
    return text
