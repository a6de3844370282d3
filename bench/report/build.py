"""Runs -> REPORT.md, report.html and their figures in a folder; or one table of every case."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow.csv import write_csv as write_arrow

from ..analysis.between import widened
from ..analysis.compare import (
    History,
    changed,
    comparable_runs,
    history_of,
    kind_of,
    require_same_settings,
)
from ..common.errors import UserError, single_line
from ..common.paths import COMMAND
from ..store.files import atomic_path, writing
from ..store.runs import load_heads, read_run, runs_frame
from ..store.schema import Head, Run
from .answers import Where, answers, groups, newest_changes
from .html import Content, write_page
from .html.data import page_data
from .markdown import Markdown, image, render_template
from .publishing import FASTEST, MARK, MAX_FIGURES, PUBLISHED, candidates, replaced
from .sections import (
    RunAnalysis,
    facet_stems,
    fastest_section,
    headline,
    history_subject,
    title_of,
)
from .style import draw_file
from .subject import Answer, Beside, Subject, figure_name, subjects


def write_table(frame: pd.DataFrame, path: Path) -> Path:
    """Write the tidy frame of every case, as CSV or Parquet by the name's ending."""
    with writing("a table", path), atomic_path(path) as unfinished:
        if path.suffix == ".csv":
            shown = frame.copy()
            for name in shown.select_dtypes(exclude=["number", "bool"]):
                texts = {text: single_line(text, 1000) for text in shown[name].dropna().unique()}
                shown[name] = [texts.get(text, "") for text in shown[name]]
            # Ten times as fast as to_csv, to the same last digit.
            write_arrow(pa.Table.from_pandas(shown, preserve_index=False), unfinished)
        else:
            frame.to_parquet(unfinished, index=False)
    return path


Keep = Callable[[pd.DataFrame], pd.DataFrame]


def write_report(
    runs: Iterable[Path],
    out: Path,
    others: Sequence[Beside] = (),
    keep: Keep = lambda frame: frame,
    page: bool = False,
    heads: Mapping[Path, Head] | None = None,
    history: bool = False,
) -> tuple[list[Path], pd.DataFrame]:
    """Write the report of stored runs into a folder, all of it or nothing.

    Returns what it wrote, and the frame of every case that it shows.

    What an earlier report wrote is replaced, anything else in the folder stays. `keep` chooses the
    cases, `page` asks for the HTML and its figures. `heads` are those of all runs whose ceilings
    count, by default of these alone, and which show with `history` how speed changed with the code.
    """
    paths = [*map(Path, runs)]
    heads = heads or load_heads(paths)
    read = {path: read_run(path, heads) for path in paths}
    if not read:
        raise UserError(
            "a report is made from stored runs: none was given or found; measure one with "
            f"`{COMMAND} run`"
        )
    require_same_settings(read)
    frame, groups = with_history(read, heads if history else read)
    with replaced(out, (*PUBLISHED, "report.html")) as new:
        frame = keep(frame)
        grids = groups if history else []
        found = [history_of(rows, str(head.settings.get("grid"))) for head, rows in grids]
        report = Report(frame, read, others, [one for one in found if one])
        report.write(new, page)
    texts = [out / "REPORT.md", *([out / "report.html"] if page else [])]
    return sorted([*texts, *(out / "figures").iterdir()]), frame


def with_history(
    read: Mapping[Path, Run], heads: Mapping[Path, Head]
) -> tuple[pd.DataFrame, list[tuple[Head, pd.DataFrame]]]:
    """Return the cases of runs, and of each grid those of all comparable runs with a head.

    The intervals of the former also hold for other runs, where comparable ones tell how far.
    """
    groups = [
        (
            heads[paths[-1]],
            runs_frame((path, read.get(path) or read_run(path, heads)) for path in paths),
        )
        for paths in comparable_runs(heads)
    ]
    kinds = {kind_of(run) for run in read.values()}
    alike = [group for head, group in groups if kind_of(head) in kinds]
    return widened(runs_frame(read.items()), alike), groups


def analyses_of(read: Mapping[Path, Run], frame: pd.DataFrame) -> list[RunAnalysis]:
    """Return what there is to tell of each number of threads of runs, by machine and name."""
    stems = facet_stems(frame)
    analyses = []
    for path, run in sorted(read.items(), key=lambda one: (one[1].machine.slug, one[0].stem)):
        rows = frame[(frame["machine"] == run.machine.slug) & (frame["run"] == path.stem)]
        parts = [part for _, part in rows.groupby("threads")] or [rows]
        analyses += [RunAnalysis(part, run, path.stem, stems) for part in parts]
    return analyses


class Report:
    """What is reported: cases of runs, what is told beside them, and the histories of their grids.

    REPORT.md has the answers, with few figures; the page has everything.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        read: Mapping[Path, Run],
        others: Sequence[Beside] = (),
        histories: Sequence[History] = (),
    ) -> None:
        """Analyse them."""
        self.frame, self.runs, self.histories = frame, read, histories
        self.others = subjects(others, frame)
        self.analyses = analyses_of(read, frame)
        self.changes = newest_changes(histories)
        self.past = [history_subject(number, one) for number, one in enumerate(histories, 1)]

    @cached_property
    def opening(self) -> list[tuple[Where, list[Answer]]]:
        """The answers, of each machine, device and number of threads."""
        every = [answer for one in self.others for answer in one.answers]
        return [
            (where, answers(rows, self.changes[where.of(self.changes)], self.others) + every)
            for where, rows in groups(self.frame)
        ]

    def write(self, folder: Path, page: bool) -> None:
        """Write REPORT.md and its figures into a folder, and the page with its own if asked."""
        every: list[RunAnalysis | Subject] = [*self.analyses, *self.others, *self.past]
        makes = {stem: make for one in every for stem, make in one.figures.items()}
        captions = {stem: text for one in every for stem, text in one.captions.items()}
        paths: dict[str, str] = {}
        images: dict[str, Markdown] = {}
        for name, stem in candidates(self.analyses, self.others).items():
            path = f"figures/{name}.png"
            if len(paths) < MAX_FIGURES and stem in makes and draw_file(makes[stem], folder / path):
                paths[stem] = path
                images[name] = image(captions.get(stem, name.capitalize()), path)
        text = self.text(images)
        (folder / "REPORT.md").write_text(f"{text}\n", encoding="utf-8", newline="\n")
        if page:
            for stem, make in makes.items():
                if stem not in paths and draw_file(make, folder / f"figures/{stem}.png"):
                    paths[stem] = f"figures/{stem}.png"
            write_page(self.content(paths), folder)

    def text(self, images: Mapping[str, Markdown]) -> Markdown:
        """Return REPORT.md, with some figures by name."""
        moved = changed(self.changes) if len(self.changes) else self.changes
        size = moved["change"].astype(float).map(lambda ratio: -max(ratio, 1 / ratio))
        operations = sorted(map(str, self.frame["operation"].unique()))
        return render_template(
            "report",
            mark=MARK,
            title=title_of(self.frame),
            parts=[one.part for one in self.others if one.part],
            figures={
                kind: [figure_name(kind, name) for name in operations]
                for kind in (FASTEST, "roofline")
            },
            opening=self.opening,
            headline=headline(self.frame),
            images=images,
            compared=len(self.changes),
            changes=moved.loc[size.sort_values(kind="stable").index],
            runs=self.analyses,
            legend=render_template("legend"),
        )

    def content(self, paths: Mapping[str, str]) -> Content:
        """Return what the page shows, with all figures by stem."""
        return Content(
            frame=self.frame,
            title=title_of(self.frame),
            analyses=self.analyses,
            opening=self.opening,
            data=page_data(self.frame, self.runs, self.histories),
            which=fastest_section(self.frame),
            changes=[section for one in self.past for section in one.sections(paths)],
            parts=[(one.part, one.sections(paths)) for one in self.others if one.part],
            more=[part for one in self.others if one.part is None for part in one.sections(paths)],
            legend=render_template("legend"),
        )
