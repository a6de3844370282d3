"""Runs -> REPORT.md, report.html, figures and tables of a folder, and parts of a README.

The only writer of these. What it writes depends on the runs, and the gate's trials, alone.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
from matplotlib.figure import Figure
from pyarrow.csv import write_csv

from bench.brief import SHOWN_BY, briefs
from bench.comparing import differing_setting
from bench.crossings import crossings
from bench.curved import (
    Curves,
    by_machine,
    curves_figure,
    curves_section,
    curves_table,
    in_order,
    names,
)
from bench.errors import UserError
from bench.figures import memory_figure, price_figure, time_figure
from bench.files import replacing
from bench.history import Chapter, alike, chapters, history_figures, history_section
from bench.joining import elsewhere, joined, sources, united
from bench.maps import error_figure, speed_figure, trade_figure
from bench.markdown import (
    HOW_TO_READ,
    crossing_section,
    doubt_section,
    escape,
    figure_section,
    first_call_section,
    growth_section,
    markdown_table,
    name_of,
    price_section,
    problem_section,
    sentences,
    slice_section,
    source,
    standing_section,
    standing_tables,
)
from bench.method import method_table
from bench.page import Claim, Section, write_page
from bench.price import HEAVY, jacobian_price
from bench.ranking import display_summary, summary
from bench.roofline import roofline_figure
from bench.scaled import Scaling, scaling_name
from bench.scaling import scaling
from bench.scalingfigures import scaling_figures
from bench.scalingview import scaling_section
from bench.schema import Ceilings, Head, Run
from bench.selecting import EVERYTHING, Keep
from bench.standing import standings, with_others
from bench.store import load_run, plain, runs_frame
from bench.tables import Slice, numbers, problems, slices
from bench.trialled import Trial, read_all, trials_figure, trials_section, trials_table

_MARK = "<!-- Written by `python -m bench report`; changes are lost. -->"
NO_HISTORY: Mapping[Path, Head] = MappingProxyType({})
NO_TRIALS: Mapping[str, Sequence[Trial]] = MappingProxyType({})
_TITLE = "# The gradient of a multi-output linear layer: what was measured"
_PIECES = ("figures", "tables", "REPORT.md", "report.html")
_START = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
_END = re.compile(r"^<!-- end: ([\w-]+) -->$", re.MULTILINE)

_WHAT = {
    "time": "time against m, n and o",
    "memory": "peak memory against m, n and o",
    "price": "price of the Jacobian over n and o",
    "roofline": "operations per second under the machine's measured ceilings",
    "speed": "speed over m, n and o",
    "error": "error against m, n and o",
    "trade": "time, memory and error of one case",
}


class _Told(NamedTuple):
    """What is told of one run, once in REPORT.md and once on the page."""

    rows: pd.DataFrame
    run: Run
    name: str
    grown: pd.DataFrame
    crossed: pd.DataFrame
    stood: pd.DataFrame
    stems: Mapping[Slice, str]
    figures: Mapping[Slice, Mapping[str, str]]


def write_report(
    runs: Iterable[Path],
    out: Path,
    trials: Iterable[Path] = (),
    curves: Sequence[Curves] = (),
    keep: Keep = EVERYTHING,
    page: bool = False,
    history: Mapping[Path, Head] = NO_HISTORY,
    scalings: Sequence[Scaling] = (),
) -> list[Path]:
    """Write the report of stored runs into a folder, all of it or nothing; return what it wrote.

    `REPORT.md`, `report.html`, `figures/` and `tables/` of an earlier report are replaced; anything
    else in the folder stays. `keep` chooses the cases that are shown, `page` asks for the HTML;
    `history` are the runs, from the past as well, that show how speed moved with the code.

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
        _refuse_foreign(out)
        with tempfile.TemporaryDirectory(
            prefix=".report-", dir=out, ignore_cleanup_errors=True
        ) as work:
            new = Path(work, "new")
            for name in ("figures", "tables"):
                (new / name).mkdir(parents=True)
            frame = keep(runs_frame(loaded))
            told = _tell(loaded, frame, new)
            past = (
                united({path: read.get(path) or load_run(path) for path in paths})
                for paths in alike(history)
            )
            further = [
                *_shard_sections(read),
                *_curve_sections(curves, new),
                *_scaling_sections(scalings, new),
                *_trial_sections(read_all(trials), new),
                *_history_sections(chapters(past), new),
            ]
            _write_text(frame, told, further, new)
            if page:
                _write_page(frame, told, further, new)
            _swap(new, out, Path(work, "old"))
    except OSError as error:
        raise UserError(
            f"a report needs a folder it can write: {plain(out)} is none "
            f"({plain(error.strerror or error)}); the old report stays; free space or give --out"
        ) from error
    texts = [out / "REPORT.md", *([out / "report.html"] if page else [])]
    return sorted([*texts, *(out / "figures").iterdir(), *(out / "tables").iterdir()])


def write_table(frame: pd.DataFrame, path: Path) -> Path:
    """Write the tidy frame of every case, as CSV or Parquet by the name's ending.

    Raises:
        UserError: The file cannot be written.
    """
    try:
        with replacing(path) as unfinished:
            if path.suffix == ".csv":
                _write_csv(frame, unfinished)
            else:
                frame.to_parquet(unfinished, index=False)
    except OSError as error:
        raise UserError(
            f"a table needs a folder it can write: {plain(path)} ({plain(error.strerror or error)})"
            "; free space or give --out"
        ) from error
    return path


def readme_blocks(
    frame: pd.DataFrame,
    figures: str = "results/figures",
    trials: Mapping[str, Sequence[Trial]] = NO_TRIALS,
    curves: Sequence[Curves] = (),
) -> dict[str, str]:
    """Return the generated parts of a README by name.

    `summary`, what each run found; `table`, the fastest kernel and the Jacobian's price at a few
    sizes of each; `standing`, how kernels, `auto`, peers and the floor stand apart in each; `time`,
    `memory` and `price`, a figure each of the gradient that was measured at the most cases;
    `source`, where that figure's numbers come from; `fit`, how long each way of training takes on
    each machine; `gate`, what the trials of the gate say, by machine. `figures` is the path of the
    report's figures as seen from the README.
    """
    runs = [run for _, run in frame.groupby(["machine", "run"])]
    blocks = {
        "summary": "\n\n".join(_bullets(run) for run in runs),
        "table": "\n\n".join(_readme_table(run) for run in _with_gradients(runs)),
        "standing": "\n\n".join(_readme_standing(run) for run in runs).strip(),
    }
    blocks["fit"] = "\n\n".join(map(_readme_fit, curves)) or "No fit curves are stored yet."
    tables = (trials_table(some, name) for name, some in trials.items())
    blocks["gate"] = "\n\n".join(tables) or "No trials are stored yet."
    parts = [part for part in slices(frame) if part.stage == "gradient"]
    if not parts:
        return blocks
    lead = max(
        parts, key=lambda part: ((part.of(frame)["status"] == "ok").sum(), part.dtype == "float64")
    )
    stem = _stems(frame)[lead]
    for what in ("time", "memory", "price"):
        text = f"{name_of(lead)}: {_WHAT[what]}"
        blocks[what] = f"![{text}]({figures}/{stem}-{what}.png)"
    return blocks | {"source": f"Measured on {source(lead.of(frame))}."}


def update_readme(
    readme: Path,
    frame: pd.DataFrame,
    figures: str = "results/figures",
    trials: Mapping[str, Sequence[Trial]] = NO_TRIALS,
    curves: Sequence[Curves] = (),
) -> bool:
    """Put the generated blocks between their marks in a README; say whether that changed it.

    Raises:
        UserError: The README is unreadable or unwritable, or its marks are not in order.
    """
    readme = Path(readme)
    text = _read(readme)
    blocks = readme_blocks(frame, figures, trials, curves)
    parts, place = [], 0
    for name, start, end in _marked(text, readme, blocks):
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
    trials: Mapping[str, Sequence[Trial]] = NO_TRIALS,
    curves: Sequence[Curves] = (),
) -> list[str]:
    """Return the names of a README's generated blocks that differ from what the frame says.

    Raises:
        UserError: The README is unreadable, or its marks are not in order.
    """
    readme = Path(readme)
    text = _read(readme)
    blocks = readme_blocks(frame, figures, trials, curves)
    found = _marked(text, readme, blocks)
    return [name for name, start, end in found if text[start:end] != f"\n{blocks[name]}\n"]


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


def _tell(loaded: dict[Path, Run], frame: pd.DataFrame, new: Path) -> list[_Told]:
    """Find out what there is to tell of each run, and write its tables and figures."""
    stems, told = _stems(frame), []
    for path, run in sorted(loaded.items(), key=lambda pair: (pair[1].machine.slug, pair[0].stem)):
        rows = frame[(frame["machine"] == run.machine.slug) & (frame["run"] == path.stem)]
        figures = {part: _write_figures(rows, part, stems[part], run, new) for part in slices(rows)}
        one = _Told(rows, run, path.stem, scaling(rows), crossings(rows), standings(rows), stems,
                    figures)  # fmt: skip
        _write_tables(one, new)
        told.append(one)
    return told


def _write_text(
    frame: pd.DataFrame, told: Sequence[_Told], further: Sequence[Section], new: Path
) -> None:
    """Write REPORT.md, the short form of the page."""
    short = [_bullets(one.rows) if len(one.rows) else f"{escape(one.name)}: nothing was planned."
             for one in told]  # fmt: skip
    parts = [
        _MARK,
        _TITLE,
        "## In short",
        *(claim.text for claim in _brief(frame)),
        HOW_TO_READ,
        "## Run by run",
        *short,
    ]
    parts += [_section(one) for one in told]
    for one in further:
        parts += [f"## {escape(one.title)}", one.text]
    text = "\n\n".join(parts)
    (new / "REPORT.md").write_text(f"{text}\n", encoding="utf-8", newline="\n")


def _write_page(
    frame: pd.DataFrame, told: Sequence[_Told], further: Sequence[Section], new: Path
) -> None:
    """Write report.html, with figures that REPORT.md has no room for."""
    (new / "more").mkdir()
    sections = [Section("How to read it", HOW_TO_READ)]
    for one in told:
        name = f"{one.run.machine.slug}, run {plain(one.name)}"
        parts = [figure_section(part, {**_more_figures(one, part, new), **figures})
                 for part, figures in one.figures.items()]  # fmt: skip
        sections.append(Section(name, "\n\n".join([*parts, *_findings(one)])))
    sections += further
    for one in told:
        title = f"How {plain(one.name)} was measured"
        sections.append(Section(title, method_table(one.run, one.name), closed=True))
    write_page(frame, _brief(frame), sections, new)


def _brief(frame: pd.DataFrame) -> list[Claim]:
    """Return the report in five sentences, of each machine where it has several."""
    found, whats = briefs(frame), [_WHAT[kind] for kind in SHOWN_BY]
    if len(found) > 1:
        return [
            Claim(f"On {escape(name)}: {' '.join(said)}", whats) for name, said in found.items()
        ]
    pairs = [pair for some in found.values() for pair in zip(some, whats, strict=True)]
    return [Claim(text, [what]) for text, what in pairs]


def _shard_sections(heads: Mapping[Path, Head]) -> list[Section]:
    """Return which runs are put together from shards, and which are parts of one."""
    said = [f"* {escape(line, len(line))}." for line in (*sources(heads), *elsewhere(heads))]
    return [Section("Runs in shards", "\n".join(said))] if said else []


def _curve_sections(curves: Sequence[Curves], new: Path) -> list[Section]:
    """Return what each machine's fit curves say, and write their figures."""
    sections = []
    for machine, some in by_machine(curves).items():
        said = []
        for one, name in zip(some, names(some), strict=True):
            figure = f"figures/{name}-curves.png"
            curves_figure(one).savefig(new / figure, metadata={"Software": None})
            said.append(curves_section(one, figure))
        sections.append(Section(f"Fits on {plain(machine)}", "\n\n".join(said)))
    return sections


def _scaling_sections(scalings: Sequence[Scaling], new: Path) -> list[Section]:
    """Return what the scaling runs of each machine say, and write their figures."""
    said: dict[str, list[str]] = {}
    for one in scalings:
        paths = {}
        for what, figure in scaling_figures(one).items():
            paths[what] = f"figures/{scaling_name(one)}-{what}.png"
            figure.savefig(new / paths[what], metadata={"Software": None})
        said.setdefault(one.machine, []).append(scaling_section(one, paths))
    return [Section(f"Scaling on {plain(machine)}", "\n\n".join(some))
            for machine, some in said.items()]  # fmt: skip


def _trial_sections(trials: Mapping[str, Sequence[Trial]], new: Path) -> list[Section]:
    """Return what the gate's trials on each machine say, and write their figures."""
    sections = []
    for name, some in trials.items():
        figure = f"figures/{name}-gate.png"
        trials_figure(some, name).savefig(new / figure, metadata={"Software": None})
        sections.append(Section(f"The gate on {plain(name)}", trials_section(some, name, figure)))
    return sections


def _history_sections(told: Sequence[Chapter], new: Path) -> list[Section]:
    """Return how speed moved from run to run on each machine, and write the figures."""
    sections = []
    for number, chapter in enumerate(told, 1):
        paths = {}
        for place, (what, figure) in enumerate(history_figures(chapter).items(), 1):
            paths[what] = f"figures/{_safe(chapter.machine)}-history-{number}-{place}.png"
            figure.savefig(new / paths[what], metadata={"Software": None})
        title = f"History on {plain(chapter.machine)}, {len(chapter.runs)} runs"
        sections.append(Section(title, history_section(chapter, paths)))
    return sections


def _bullets(rows: pd.DataFrame) -> str:
    return "\n".join([f"{source(rows)}:\n", *(f"* {said}" for said in sentences(rows))])


def _readme_table(rows: pd.DataFrame) -> str:
    table = summary(rows)
    if table.empty:
        return f"{source(rows)}: no gradient has a time."
    return f"{markdown_table(display_summary(table))}\n\nMeasured on {source(rows)}."


def _with_gradients(runs: Sequence[pd.DataFrame]) -> Sequence[pd.DataFrame]:
    """Return the runs that measured a gradient; all of them where none did."""
    return [run for run in runs if (run["stage"] == "gradient").any()] or runs


def _readme_standing(rows: pd.DataFrame) -> str:
    said = standing_tables(standings(rows))
    return f"{said}\n\nMeasured on {source(rows)}." if said else ""


def _readme_fit(curves: Curves) -> str:
    table = curves_table(curves).drop(columns=["legs", "a leg", "status"])
    timed = table[[len(one.seconds) > 0 for one in in_order(curves)]]
    return f"{curves.task}, on {escape(curves.machine)}:\n\n{markdown_table(timed)}"


def _section(told: _Told) -> str:
    """Return what REPORT.md says of one run."""
    head = f"## {escape(told.run.machine.slug)}, run {escape(told.name)}"
    parts = [head, method_table(told.run, told.name)]
    for part, figures in told.figures.items():
        numbers = f"tables/{told.stems[part]}.csv"
        parts.append(slice_section(told.rows, part, figures, numbers))
    return "\n\n".join([*parts, *_findings(told)])


def _findings(told: _Told) -> list[str]:
    """Return what one run found beyond the numbers of its cases."""
    rows = told.rows
    parts = [standing_section(told.stood), first_call_section(rows)]
    parts += [price_section(rows), growth_section(told.grown), crossing_section(told.crossed)]
    parts += [doubt_section(rows), problem_section(rows)]
    return [part for part in parts if part]


def _write_figures(
    rows: pd.DataFrame, part: Slice, stem: str, run: Run, new: Path
) -> dict[str, str]:
    memory = run.machine.memory_bytes if part.device == "cpu" else None
    ceilings = run.machine.ceilings.get(part.device, Ceilings())
    draw: dict[str, Callable[[], Figure | None]] = {
        "time": lambda: time_figure(rows, part),
        "memory": lambda: memory_figure(rows, part, memory),
    }
    if part.stage == "gradient" and (part.of(rows)["kernel"] == HEAVY).any():
        draw["price"] = lambda: price_figure(rows, part)
    draw["roofline"] = lambda: roofline_figure(rows, part, ceilings)
    return _drawn(draw, f"figures/{stem}", new)


def _more_figures(told: _Told, part: Slice, new: Path) -> dict[str, str]:
    """Draw what only the page shows of a slice."""
    draw: dict[str, Callable[[], Figure | None]] = {
        "speed": lambda: speed_figure(told.rows, part),
        "error": lambda: error_figure(told.rows, part),
        "trade": lambda: trade_figure(told.rows, part),
    }
    return _drawn(draw, f"more/{told.stems[part]}", new)


def _drawn(draw: Mapping[str, Callable[[], Figure | None]], stem: str, new: Path) -> dict[str, str]:
    """Write figures, and return the path of each by what it shows."""
    paths = {}
    for what, make in draw.items():
        figure = make()
        if figure is not None:
            paths[_WHAT[what]] = f"{stem}-{what}.png"
            figure.savefig(new / paths[_WHAT[what]], metadata={"Software": None})
    return paths


def _write_tables(told: _Told, new: Path) -> None:
    rows = told.rows
    for part in slices(rows):
        stem = told.stems[part]
        _write_csv(numbers(part.of(rows)), new / "tables" / f"{stem}.csv")
        for what, table in (
            ("price", jacobian_price(part.of(rows))),
            ("growth", part.of(told.grown)),
            ("crossings", part.of(told.crossed)),
            ("standing", with_others(part.of(told.stood))),
            ("without-numbers", problems(part.of(rows))),
        ):
            if len(table):
                _write_csv(table, new / "tables" / f"{stem}-{what}.csv")


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    shown = table.copy()
    for name in shown.select_dtypes(exclude=["number", "bool"]):
        texts = {value: plain(value, 1000) for value in shown[name].dropna().unique()}
        shown[name] = [texts.get(value, "") for value in shown[name]]
    # Ten times as fast as to_csv, to the same last digit.
    write_csv(pa.Table.from_pandas(shown, preserve_index=False), path)


def _stems(frame: pd.DataFrame) -> dict[Slice, str]:
    """Return a file name for each slice; the run is named where a machine has several."""
    several = frame.groupby("machine")["run"].nunique() > 1
    stems: dict[Slice, str] = {}
    for part in slices(frame):
        names = [part.machine, part.run] if several[part.machine] else [part.machine]
        stem = _safe("-".join([*names, *part[2:]]))
        taken = {other.lower() for other in stems.values()}
        count = 2
        unique = stem
        while unique.lower() in taken:
            unique, count = f"{stem}-{count}", count + 1
        stems[part] = unique
    return stems


def _safe(name: str) -> str:
    """Return a name that a file can have anywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:150]


def _refuse_foreign(out: Path) -> None:
    report = out / "REPORT.md"
    ours = report.is_file() and report.read_bytes().startswith(_MARK.encode())
    for name in _PIECES:
        if not ours and os.path.lexists(out / name):
            raise UserError(
                f"a report replaces only an earlier report: {plain(out / name)} is of another "
                "origin; move it away or give another --out"
            )


def _swap(new: Path, out: Path, old: Path) -> None:
    old.mkdir()
    moved: list[tuple[Path, Path]] = []
    try:
        for name in _PIECES:
            for origin, target in ((out / name, old / name), (new / name, out / name)):
                if os.path.lexists(origin):
                    os.replace(origin, target)
                    moved.append((origin, target))
    except OSError:
        for origin, target in reversed(moved):
            os.replace(target, origin)
        raise


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


def _marked(text: str, readme: Path, blocks: dict[str, str]) -> list[tuple[str, int, int]]:
    """Return name, start and end of what stands between the marks."""
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
