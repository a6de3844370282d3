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
from PIL import Image

from ..analysis.frame import calls, lead, operations_of
from ..analysis.ranking import fastest, spread
from ..common.errors import UserError, single_line
from ..store.files import atomic_path, swap, writing
from ..store.runs import runs_frame
from .figures import kinds
from .markdown import image, render_template
from .sections import RunAnalysis, measured
from .subject import Beside, Subject, figure_name, subjects

MARK = "<!-- Written by `python -m bench report`; changes are lost. -->"
MAX_FIGURES = 11  # that REPORT.md shows
PUBLISHED = ("REPORT.md", "figures")


def candidates(analyses: Sequence[RunAnalysis], others: Iterable[Subject] = ()) -> dict[str, str]:
    """Return the stem of the figure that each short name may show, the first choice first.

    Where several runs or machines have one it is that of the slice with the most measured cases,
    in float64 among equals. None has two names.
    """
    found = [(one.rank, name, stem) for one in others for name, stem in one.published.items()]
    rows = calls(pd.concat([one.rows for one in analyses]))
    operations = operations_of(rows)
    for kind in kinds().values():
        for rank, operation in kind.turns(operations):
            part = lead(rows, operation, kind.when)
            if part is not None:
                stem = next(one.stems[part] for one in analyses if part in one.stems)
                name = figure_name(kind.name, operation)
                found.append((rank, name, f"{stem}-{kind.name}"))
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
    """Copy REPORT.md and the figures that it shows, all or nothing; return the copies.

    The figures are packed: a repository keeps every version of them.
    """
    text = (report / "REPORT.md").read_text(encoding="utf-8")
    shown = ["REPORT.md", *re.findall(r"\]\((figures/[^)]+)\)", text)]
    with replaced(results, PUBLISHED) as new:
        for name in shown:
            (_pack if name.endswith(".png") else shutil.copyfile)(report / name, new / name)
    return [results / name for name in shown]


_MARK = re.compile(r"(?m)^<!-- (?:generated|end): [\w.:-]+ -->$")
_BLOCK = re.compile(r"(?ms)^(<!-- generated: ([\w.:-]+) -->)$.*?^(<!-- end: \2 -->)$")
FASTEST = "fastest"  # its blocks: `fastest-`, and an operation


def _pack(figure: Path, copy: Path) -> None:
    """Copy a PNG with the 64 colours that fit it best, in a third of the bytes."""
    with Image.open(figure) as picture:
        picture.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(copy, optimize=True)


def readme_blocks(
    frame: pd.DataFrame, figures: str = "results/figures", others: Sequence[Beside] = ()
) -> dict[str, str]:
    """Return the generated parts of a README by name.

    They are the fastest kernels of each operation, in the slice that says the most of it, of the
    newest run of several operations where there is one; and what other subjects have: their own
    parts, and the figures that they publish.
    """
    blocks: dict[str, str] = {}
    for operation in calls(frame)["operation"].unique():
        part = lead(_broadest(frame, operation), operation)
        rows = part.of(frame) if part is not None else frame.iloc[:0]
        name = figure_name(FASTEST, str(operation))
        best = spread(fastest(rows))
        blocks[name] = render_template("readme", rows=best, where=measured(rows))
    for other in subjects(others, frame):
        blocks |= other.readme
        blocks |= {
            name: image(other.captions[stem], f"{figures}/{name}.png")
            for name, stem in other.published.items()
            if stem in other.captions
        }
    return blocks


def _broadest(frame: pd.DataFrame, operation: str) -> pd.DataFrame:
    """Return the newest run that has an operation and as many others as any run that has it.

    One of many operations has their most different sizes; one of a single operation has many sizes
    that are much alike.
    """
    having = frame["run"].isin(frame.loc[frame["operation"] == operation, "run"])
    counts = frame[having].groupby("run")["operation"].nunique()
    rows = frame[frame["run"].isin(counts.index[counts == counts.max()])]
    newest: pd.DataFrame = rows[rows["datetime"] == rows["datetime"].max()]
    return newest


def check_readme(readme: Path, others: Sequence[Beside] = ()) -> None:
    """Refuse a README that `update_readme` could not renew, whatever operations are stored."""
    _read(readme, readme_blocks(runs_frame([]), others=others))


def update_readme(
    readme: Path, frame: pd.DataFrame, figures: str = "results/figures",
    others: Sequence[Beside] = (),
) -> bool:  # fmt: skip
    """Put the generated blocks between their marks in a README; say whether that changed it."""
    blocks = readme_blocks(frame, figures, others)
    text = _read(readme, blocks)

    def renewed(found: re.Match[str]) -> str:
        operation = found[2].removeprefix(f"{FASTEST}-")
        return f"{found[1]}\n{blocks.get(found[2], f'No {operation} is stored yet.')}\n{found[3]}"

    new = _BLOCK.sub(renewed, text)
    if new != text:
        remedy = "it is as it was; free space or check its rights"
        with writing("a README", readme, remedy), atomic_path(readme) as unfinished:
            unfinished.write_bytes(new.encode())
            shutil.copymode(readme, unfinished)
    return new != text


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
    own = {name for name in names if name.startswith(f"{FASTEST}-")}
    if unknown := sorted(names - own - set(blocks)):
        raise UserError(
            f"a README's generated blocks are {FASTEST}-OPERATION, {', '.join(blocks)}: "
            f"{single_line(readme)} has {single_line(', '.join(unknown))}; rename or remove it"
        )
    return text
