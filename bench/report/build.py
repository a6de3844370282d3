"""Runs -> REPORT.md, report.html, figures and tables of a folder.

The only writer of these. What it writes depends on what is stored alone. What of it a repository
keeps is the subject of `bench.report.publishing`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from ..analysis.compare import differing_setting
from ..analysis.history import History, comparable_runs, history_of
from ..common.errors import UserError
from ..store.files import swap
from ..store.runs import load_run, runs_frame, single_line
from ..store.schema import Head, Run
from ..store.shards import merge_shards
from .draw import draw, draw_all
from .export import write_csv
from .html import write_page
from .markdown import contents, render_template
from .publishing import MARK, MAX_FIGURES, candidates, refuse_foreign
from .sections import (
    RunAnalysis,
    facet_stems,
    fastest_section,
    history_subject,
    method_section,
    shards_section,
)
from .subject import Section, Subject
from .summary import summarise

NO_HISTORY: Mapping[Path, Head] = MappingProxyType({})
Keep = Callable[[pd.DataFrame], pd.DataFrame]
_TITLE = "# The gradient of a multi-output linear layer: what was measured"
_PIECES = ("figures", "tables", "REPORT.md", "report.html")


def write_report(
    runs: Iterable[Path],
    out: Path,
    others: Sequence[Subject] = (),
    keep: Keep | None = None,
    page: bool = False,
    history: Mapping[Path, Head] = NO_HISTORY,
) -> list[Path]:
    """Write the report of stored runs into a folder, all of it or nothing; return what it wrote.

    `REPORT.md`, `report.html`, `figures/` and `tables/` of an earlier report are replaced; anything
    else in the folder stays. `keep` chooses the cases that are shown, `page` asks for the HTML and
    for the figures that it alone shows; `history` are the runs, from the past as well, that show
    how speed changed with the code.

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
    loaded = merge_shards(read)
    _require_same_settings(loaded)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        refuse_foreign(out, _PIECES)
        frame = runs_frame(loaded)
        frame = frame if keep is None else keep(frame)
        every = [*others, history_subject(list(_histories(history, read)))]
        with tempfile.TemporaryDirectory(
            prefix=".report-", dir=out, ignore_cleanup_errors=True
        ) as work:
            new = Path(work, "new")
            _write(frame, _analyses(loaded, frame), read, every, new, page)
            swap(_PIECES, new, out, Path(work, "old"))
    except OSError as error:
        raise UserError(
            f"a report needs a folder it can write: {single_line(out)} is none "
            f"({single_line(error.strerror or error)}); the old report stays; free "
            "space or give --out"
        ) from error
    texts = [out / "REPORT.md", *([out / "report.html"] if page else [])]
    return sorted([*texts, *(out / "figures").iterdir(), *(out / "tables").iterdir()])


def _require_same_settings(loaded: Mapping[Path, Run]) -> None:
    """Refuse runs of one machine that would stand side by side but differ in a setting."""
    first: dict[str, tuple[Path, Run]] = {}
    for path, run in loaded.items():
        earlier, other = first.setdefault(run.machine.slug, (path, run))
        if differ := differing_setting(other, run):
            name, one, two = differ
            raise UserError(
                f"runs of one machine are reported together where their settings are the same; "
                f"{name} is {one} in {single_line(earlier.name)} and {two} in "
                f"{single_line(path.name)}; report one of them by its name, or measure one anew"
            )


def _histories(heads: Mapping[Path, Head], read: Mapping[Path, Run]) -> Iterator[History]:
    for paths in comparable_runs(heads):
        runs = merge_shards({path: read.get(path) or load_run(path) for path in paths})
        grid = str(heads[paths[-1]].settings.get("grid"))
        if (found := history_of(runs_frame(runs), grid)) is not None:
            yield found


def _analyses(loaded: Mapping[Path, Run], frame: pd.DataFrame) -> list[RunAnalysis]:
    """Find out what there is to tell of each run, by machine and name."""
    stems, found = facet_stems(frame), []
    for path, run in sorted(loaded.items(), key=lambda pair: (pair[1].machine.slug, pair[0].stem)):
        rows = frame[(frame["machine"] == run.machine.slug) & (frame["run"] == path.stem)]
        found.append(RunAnalysis(rows, run, path.stem, stems))
    return found


def _write(
    frame: pd.DataFrame, analyses: Sequence[RunAnalysis], heads: Mapping[Path, Head],
    subjects: Sequence[Subject], new: Path, page: bool,
) -> None:  # fmt: skip
    """Write every piece of a report into a new folder."""
    for name in ("figures", "tables"):
        (new / name).mkdir(parents=True)
    figures = [*(one.makes() for one in analyses), *(one.figures for one in subjects)]
    makes = {stem: make for some in figures for stem, make in some.items()}
    paths: dict[str, str] = {}
    for name, stem in candidates(frame, analyses, subjects).items():
        path = f"figures/{name}.png"
        if len(paths) < MAX_FIGURES and stem in makes and draw(makes[stem], new / path):
            paths[stem] = path
    summaries = [summarise(one) for one in analyses]
    legend, which = render_template("legend"), fastest_section(frame)

    def rest(with_tables: bool) -> Iterator[Section]:
        yield from (one.section(paths, with_tables) for one in analyses)
        yield from shards_section(heads)
        yield from (section for one in subjects for section in one.sections(paths))
        yield from map(method_section, analyses)

    summary = Section("Summary", render_template("summary", summaries=summaries))
    explained = Section("How to read it", f"{legend}\n\n{render_template('files')}")
    _write_text([summary, which, explained, *rest(with_tables=True)], new)
    if page:
        left = {stem: make for stem, make in makes.items() if stem not in paths}
        drawn = draw_all(left, new / "figures")
        paths |= {stem: f"figures/{stem}.png" for stem in drawn}
        sections = [Section("How to read it", legend), which, *rest(with_tables=False)]
        write_page(frame, summaries, sections, new)
    for one in analyses:
        for name, table in one.tables():
            if len(table):
                write_csv(table, new / "tables" / f"{name}.csv")


def _write_text(sections: Sequence[Section], new: Path) -> None:
    """Write REPORT.md, the short form of the page."""
    body = render_template("report", sections=sections)
    text = "\n\n".join([MARK, _TITLE, contents(f"{_TITLE}\n{body}"), body])
    (new / "REPORT.md").write_text(f"{text}\n", encoding="utf-8", newline="\n")
