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
from ..store.files import atomic_path, swap, writing
from ..store.runs import runs_frame
from .figures import OTHERS, kinds
from .markdown import image, render_blocks
from .sections import RunAnalysis, measured, name_of, peer_tables
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
    rows = pd.concat([one.rows for one in analyses])
    for kind, slot in slots:
        part = lead(rows, slot.operation, kind.when)
        if part is not None:
            stem = next(one.stems[part] for one in analyses if part in one.stems)
            found.append((slot.rank, slot.name, f"{stem}-{kind.name}"))
    names: dict[str, str] = {}
    for _, name, stem in sorted(found, key=lambda one: one[0]):
        if stem not in names.values():
            names[name] = stem
    return names


@contextmanager
def replaced(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Give a new folder; what it has of some names then replaces an earlier report, or nothing."""
    with writing("a report", folder, "the old report stays; free space or give --out"):
        folder.mkdir(parents=True, exist_ok=True)
        refuse_foreign(folder, names)
        with tempfile.TemporaryDirectory(
            prefix=".report-", dir=folder, ignore_cleanup_errors=True
        ) as work:
            new = Path(work, "new")
            (new / "figures").mkdir(parents=True)
            yield new
            swap(names, new, folder, Path(work, "old"))


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
    text = (report / "REPORT.md").read_text(encoding="utf-8")
    shown = ["REPORT.md", *re.findall(r"\]\((figures/[^)]+)\)", text)]
    with replaced(results, PUBLISHED) as new:
        for name in shown:
            shutil.copyfile(report / name, new / name)
    return [results / name for name in shown]


_MARK = re.compile(r"(?m)^<!-- (?:generated|end): [\w-]+ -->$")
_BLOCK = re.compile(r"(?ms)^(<!-- generated: ([\w-]+) -->)$.*?^(<!-- end: \2 -->)$")


def readme_blocks(
    frame: pd.DataFrame, figures: str = "results/figures", others: Sequence[Subject] = ()
) -> dict[str, str]:
    """Return the generated parts of a README by name.

    `step`, the fastest step of the run that measured the most gradients; `table`, the fastest
    kernel and the Jacobian's overhead of each run; `peers`, how others compare; and figures.
    """
    runs = [run for _, run in frame.groupby(["machine", "run", "threads"])]
    with_gradients = [run for run in runs if (run["operation"] == "gradient").any()] or runs
    blocks = render_blocks(
        "readme",
        steps=_steps(frame),
        overviews=[(measured(rows), gradient_overview(rows)) for rows in with_gradients],
        runs=[(measured(rows), peer_tables(relative_performance(rows))) for rows in runs],
    )
    for kind in kinds().values():
        if kind.readme:
            slot = kind.slots[0]
            part = lead(frame, slot.operation, kind.when)
            blocks[kind.name] = f"No {slot.operation} is stored yet to draw {kind.title} of."
            if part is not None:
                said = f"{name_of(part)}: {kind.title}"
                blocks[kind.name] = image(said, f"{figures}/{slot.name}.png")
    for other in others:
        blocks |= other.readme
    return blocks


def check_readme(readme: Path, others: Sequence[Subject] = ()) -> None:
    """Refuse a README that `update_readme` could not renew."""
    _read(readme, readme_blocks(runs_frame([]), others=others))


def update_readme(
    readme: Path, frame: pd.DataFrame, figures: str = "results/figures",
    others: Sequence[Subject] = (),
) -> bool:  # fmt: skip
    """Put the generated blocks between their marks in a README; say whether that changed it."""
    blocks = readme_blocks(frame, figures, others)
    text = _read(readme, blocks)
    new = _BLOCK.sub(lambda found: f"{found[1]}\n{blocks[found[2]]}\n{found[3]}", text)
    if new != text:
        remedy = "it is as it was; free space or check its rights"
        with writing("a README", readme, remedy), atomic_path(readme) as unfinished:
            unfinished.write_bytes(new.encode())
            shutil.copymode(readme, unfinished)
    return new != text


def _steps(frame: pd.DataFrame) -> tuple[str, pd.DataFrame] | None:
    gradient = lead(frame, "gradient")
    part = gradient and gradient._replace(operation="step", dtype="float64")
    if part is None or not (part.of(frame)["status"] == "ok").any():
        part = lead(frame, "step")
    return part and (measured(part.of(frame)), spread(fastest(part.of(frame))))


def _read(readme: Path, blocks: Iterable[str]) -> str:
    try:
        text = readme.read_bytes().decode()
    except (OSError, ValueError) as error:
        raise UserError(
            f"a README must be readable UTF-8 text: {single_line(readme)} is not "
            f"({single_line(error, 100)}); give another"
        ) from error
    names = {name for _, name, _ in _BLOCK.findall(text)}
    if not names or len(_MARK.findall(text)) != 2 * len(names):
        raise UserError(
            "a README must have each block once, as `<!-- generated: NAME -->` … `<!-- end: NAME "
            f"-->` on lines of their own: {single_line(readme)} has not; put its marks in order"
        )
    if unknown := sorted(names - set(blocks)):
        raise UserError(
            f"a README's generated blocks are {', '.join(blocks)}: {single_line(readme)} has "
            f"{single_line(', '.join(unknown))}; rename or remove it"
        )
    return text
