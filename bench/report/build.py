"""Runs -> REPORT.md, report.html, figures and tables of a folder."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow.csv import write_csv as write_arrow

from ..analysis.compare import History, comparable_runs, differing_setting, history_of
from ..common.errors import UserError, single_line
from ..store.files import atomic_path, swap
from ..store.runs import load_run, runs_frame
from ..store.schema import Head, Run
from .html import write_page
from .markdown import contents, render_template
from .publishing import MARK, MAX_FIGURES, candidates, or_refuse, refuse_foreign
from .sections import (
    RunAnalysis,
    facet_stems,
    fastest_section,
    history_subject,
    method_section,
    summarise,
)
from .style import in_style, save
from .subject import Make, Section, Subject

_MAX_PROCESSES = 4


def draw_file(make: Make, path: Path) -> bool:
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
                drawn = list(pool.map(draw_file, *zip(*jobs, strict=True)))
            return [stem for stem, there in zip(makes, drawn, strict=True) if there]
        except BrokenProcessPool:  # one was killed, for want of memory say
            pass
    return [stem for stem, job in zip(makes, jobs, strict=True) if draw_file(*job)]


def _may_fork() -> bool:
    if sys.platform != "linux" or {"torch", "jax"} & sys.modules.keys():
        return False
    return len(os.sched_getaffinity(0)) > 1


def write_table(frame: pd.DataFrame, path: Path) -> Path:
    """Write the tidy frame of every case, as CSV or Parquet by the name's ending."""
    needs = f"a table needs a folder it can write: {single_line(path)}"
    with or_refuse(needs, "free space or give --out"), atomic_path(path) as unfinished:
        if path.suffix == ".csv":
            write_csv(frame, unfinished)
        else:
            frame.to_parquet(unfinished, index=False)
    return path


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a frame as CSV, each text on one line."""
    shown = table.copy()
    for name in shown.select_dtypes(exclude=["number", "bool"]):
        texts = {value: single_line(value, 1000) for value in shown[name].dropna().unique()}
        shown[name] = [texts.get(value, "") for value in shown[name]]
    # Ten times as fast as to_csv, to the same last digit.
    write_arrow(pa.Table.from_pandas(shown, preserve_index=False), path)


Keep = Callable[[pd.DataFrame], pd.DataFrame]
_TITLE = "# The gradient of a multi-output linear layer: what was measured"
_PIECES = ("figures", "tables", "REPORT.md", "report.html")


def write_report(
    runs: Iterable[Path],
    out: Path,
    others: Sequence[Subject] = (),
    keep: Keep = lambda frame: frame,
    page: bool = False,
    history: Mapping[Path, Head] | None = None,
) -> list[Path]:
    """Write the report of stored runs into a folder, all of it or nothing; return what it wrote.

    What an earlier report wrote is replaced, anything else in the folder stays. `keep` chooses the
    cases, `page` asks for the HTML and its figures; `history` are the runs that show how speed
    changed with the code.
    """
    read = {Path(path): load_run(path) for path in runs}
    if not read:
        raise UserError(
            "a report is made from stored runs: none was given or found; measure one with "
            "`python -m bench run`"
        )
    _require_same_settings(read)
    out = Path(out)
    needs = f"a report needs a folder it can write: {single_line(out)} is none"
    with or_refuse(needs, "the old report stays; free space or give --out"):
        out.mkdir(parents=True, exist_ok=True)
        refuse_foreign(out, _PIECES)
        frame = keep(runs_frame(read))
        every = [*others, history_subject(list(_histories(history or {}, read)))]
        with tempfile.TemporaryDirectory(
            prefix=".report-", dir=out, ignore_cleanup_errors=True
        ) as work:
            new = Path(work, "new")
            stems = facet_stems(frame)
            ordered = sorted(read.items(), key=lambda one: (one[1].machine.slug, one[0].stem))
            analyses = [RunAnalysis(frame, run, path.stem, stems) for path, run in ordered]
            _write(frame, analyses, every, new, page)
            swap(_PIECES, new, out, Path(work, "old"))
    texts = [out / "REPORT.md", *([out / "report.html"] if page else [])]
    return sorted([*texts, *(out / "figures").iterdir(), *(out / "tables").iterdir()])


def _require_same_settings(loaded: Mapping[Path, Run]) -> None:
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
        runs = {path: read.get(path) or load_run(path) for path in paths}
        grid = str(heads[paths[-1]].settings.get("grid"))
        if (found := history_of(runs_frame(runs), grid)) is not None:
            yield found


def _write(
    frame: pd.DataFrame, analyses: Sequence[RunAnalysis], subjects: Sequence[Subject],
    new: Path, page: bool,
) -> None:  # fmt: skip
    for name in ("figures", "tables"):
        (new / name).mkdir(parents=True)
    figures = [*(one.makes() for one in analyses), *(one.figures for one in subjects)]
    makes = {stem: make for some in figures for stem, make in some.items()}
    paths: dict[str, str] = {}
    for name, stem in candidates(analyses, subjects).items():
        path = f"figures/{name}.png"
        if len(paths) < MAX_FIGURES and stem in makes and draw_file(makes[stem], new / path):
            paths[stem] = path
    summaries = [summarise(one) for one in analyses]
    legend, which = render_template("legend"), fastest_section(frame)

    def rest(with_tables: bool) -> Iterator[Section]:
        yield from (one.section(paths, with_tables) for one in analyses)
        yield from (section for one in subjects for section in one.sections(paths))
        yield from map(method_section, analyses)

    summary = Section("Summary", render_template("summary", summaries=summaries))
    explained = Section("How to read it", f"{legend}\n\n{render_template('files')}")
    body = render_template("report", sections=[summary, which, explained, *rest(with_tables=True)])
    text = "\n\n".join([MARK, _TITLE, contents(f"{_TITLE}\n{body}"), body])
    (new / "REPORT.md").write_text(f"{text}\n", encoding="utf-8", newline="\n")
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
