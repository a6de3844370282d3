"""Runs -> REPORT.md, report.html, figures and tables of a folder.

The only writer of these. What it writes depends on what is stored alone. What of it a repository
keeps is the subject of `bench.report.publishing`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from ..analysis.compare import differing_setting
from ..analysis.frame import numbers, problems, slices
from ..analysis.jacobian import jacobian_price
from ..analysis.peers import with_others
from ..analysis.selecting import EVERYTHING, Keep
from ..common.errors import UserError
from ..store.files import swap
from ..store.runs import load_run, plain, runs_frame
from ..store.schema import Head, Run
from ..store.shards import joined, united
from .catalogue import WHAT, slice_stems
from .export import write_csv
from .gallery import Gallery
from .history import alike, chapters
from .html import Claim, Section, write_page
from .markdown import HOW_TO_READ, escape, run_summary
from .overview import WHICH, contents, which_section
from .publishing import MARK, MOST, candidates, refuse_foreign
from .sections import (
    Subjects,
    Told,
    figures_of,
    further_sections,
    method_sections,
    run_sections,
    tell,
)
from .subject import Subject
from .summary import SHOWN_BY, briefs

NO_HISTORY: Mapping[Path, Head] = MappingProxyType({})
_TITLE = "# The gradient of a multi-output linear layer: what was measured"
_PIECES = ("figures", "tables", "REPORT.md", "report.html")
_ALL = """\
`python -m bench report` writes every table of this file as CSV under `results/report/tables`
(`report/tables` of another results folder) and, beside it, `report.html`: one page with all figures
and with every case in a table that sorts and filters."""


def write_report(
    runs: Iterable[Path],
    out: Path,
    others: Sequence[Subject] = (),
    keep: Keep = EVERYTHING,
    page: bool = False,
    history: Mapping[Path, Head] = NO_HISTORY,
) -> list[Path]:
    """Write the report of stored runs into a folder, all of it or nothing; return what it wrote.

    `REPORT.md`, `report.html`, `figures/` and `tables/` of an earlier report are replaced; anything
    else in the folder stays. `keep` chooses the cases that are shown, `page` asks for the HTML and
    for the figures that it alone shows; `history` are the runs, from the past as well, that show
    how speed moved with the code.

    Raises:
        UserError: No run, an unreadable one, two of a machine that differ in a setting, one that
            lacks a shard, or a folder that cannot or must not be written.
    """
    read = {Path(path): load_run(path) for path in runs}
    if not read:
        raise UserError(
            "a report is made from stored runs: none was given or found; measure one with "
            "`python -m bench run`"
        )
    loaded = joined(read)
    _require_alike(loaded)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        refuse_foreign(out, _PIECES)
        frame = keep(runs_frame(loaded))
        past = ({path: read.get(path) or load_run(path) for path in paths}
                for paths in alike(history))  # fmt: skip
        subjects = Subjects(
            told=_tell(loaded, frame),
            heads=read,
            others=others,
            chapters=chapters(map(united, past)),
        )
        with tempfile.TemporaryDirectory(
            prefix=".report-", dir=out, ignore_cleanup_errors=True
        ) as work:
            new = Path(work, "new")
            _write(frame, subjects, new, page)
            swap(_PIECES, new, out, Path(work, "old"))
    except OSError as error:
        raise UserError(
            f"a report needs a folder it can write: {plain(out)} is none "
            f"({plain(error.strerror or error)}); the old report stays; free space or give --out"
        ) from error
    texts = [out / "REPORT.md", *([out / "report.html"] if page else [])]
    return sorted([*texts, *(out / "figures").iterdir(), *(out / "tables").iterdir()])


def _require_alike(loaded: Mapping[Path, Run]) -> None:
    """Refuse runs of one machine that would be summed up together but differ in a setting."""
    first: dict[str, tuple[Path, Run]] = {}
    for path, run in loaded.items():
        earlier, other = first.setdefault(run.machine.slug, (path, run))
        differ = differing_setting(other, run)
        if differ is not None:
            name, one, two = differ
            raise UserError(
                f"runs of one machine are summed up together where their settings are the same; "
                f"{name} is {one} in {plain(earlier.name)} and {two} in {plain(path.name)}; "
                "report one of them by its name, or measure one anew"
            )


def _tell(loaded: Mapping[Path, Run], frame: pd.DataFrame) -> list[Told]:
    """Find out what there is to tell of each run, by machine and name."""
    stems, told = slice_stems(frame), []
    for path, run in sorted(loaded.items(), key=lambda pair: (pair[1].machine.slug, pair[0].stem)):
        rows = frame[(frame["machine"] == run.machine.slug) & (frame["run"] == path.stem)]
        told.append(tell(rows, run, path.stem, stems))
    return told


def _write(frame: pd.DataFrame, subjects: Subjects, new: Path, page: bool) -> None:
    """Write every piece of a report into a new folder."""
    for name in ("figures", "tables"):
        (new / name).mkdir(parents=True)
    gallery = Gallery(new, figures_of(subjects), page)
    _draw_published(gallery, candidates(frame, subjects))
    claims, which = _brief(frame), Section(WHICH, which_section(frame))
    _write_text(claims, which, subjects, gallery.paths, new)
    if page:
        gallery.draw_rest()
        sections = [Section("How to read it", HOW_TO_READ), which,
                    *_sections(subjects, gallery.paths, page=True)]  # fmt: skip
        write_page(frame, claims, sections, new)
    for one in subjects.told:
        _write_tables(one, new)


def _draw_published(gallery: Gallery, found: Mapping[str, str]) -> None:
    """Draw the figures of REPORT.md: the first of those that there are, by their short names."""
    for name, stem in found.items():
        if len(gallery.paths) < MOST:
            gallery.draw(stem, name)


def _sections(subjects: Subjects, paths: Mapping[str, str], page: bool) -> list[Section]:
    """Return what follows the overview, with the figures of some paths."""
    return [
        *run_sections(subjects.told, paths, tables=not page),
        *further_sections(subjects, paths),
        *method_sections(subjects.told),
    ]


def _write_text(
    claims: Sequence[Claim], which: Section, subjects: Subjects, paths: Mapping[str, str], new: Path
) -> None:
    """Write REPORT.md, the short form of the page."""
    short = [run_summary(one.rows) if len(one.rows) else f"{escape(one.name)}: nothing was planned."
             for one in subjects.told]  # fmt: skip
    sections = [
        Section("In short", "\n\n".join(claim.text for claim in claims)),
        which,
        Section("How to read it", f"{HOW_TO_READ}\n\n{_ALL}"),
        Section("Run by run", "\n\n".join(short)),
        *_sections(subjects, paths, page=False),
    ]
    body = "\n\n".join(f"## {escape(one.title, 400)}\n\n{one.text}" for one in sections)
    text = "\n\n".join([MARK, _TITLE, contents(f"{_TITLE}\n{body}"), body])
    (new / "REPORT.md").write_text(f"{text}\n", encoding="utf-8", newline="\n")


def _brief(frame: pd.DataFrame) -> list[Claim]:
    """Return the report in five sentences, of each machine where it has several."""
    found, whats = briefs(frame), [WHAT[kind] for kind in SHOWN_BY]
    if len(found) > 1:
        return [
            Claim(f"On {escape(name)}: {' '.join(said)}", whats) for name, said in found.items()
        ]
    pairs = [pair for some in found.values() for pair in zip(some, whats, strict=True)]
    return [Claim(text, [what]) for text, what in pairs]


def _write_tables(told: Told, new: Path) -> None:
    rows = told.rows
    for part in slices(rows):
        stem = told.stems[part]
        write_csv(numbers(part.of(rows)), new / "tables" / f"{stem}.csv")
        for what, table in (
            ("price", jacobian_price(part.of(rows))),
            ("growth", part.of(told.grown)),
            ("crossings", part.of(told.crossed)),
            ("standing", with_others(part.of(told.stood))),
            ("without-numbers", problems(part.of(rows))),
        ):
            if len(table):
                write_csv(table, new / "tables" / f"{stem}-{what}.csv")
