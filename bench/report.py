"""Runs -> REPORT.md, figures and tables of a folder, and the generated parts of a README.

The only writer of these. What it writes depends on the runs, and the gate's trials, alone.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd
from matplotlib.figure import Figure

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
from bench.markdown import (
    HOW_TO_READ,
    crossing_section,
    doubt_section,
    escape,
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
from bench.price import HEAVY, jacobian_price
from bench.ranking import display_summary, summary
from bench.roofline import roofline_figure
from bench.scaling import scaling
from bench.schema import Ceilings, Run
from bench.selecting import EVERYTHING, Keep
from bench.standing import standings, with_others
from bench.store import load_run, plain, runs_frame
from bench.tables import Slice, numbers, problems, slices
from bench.trialled import Trial, read_all, trials_figure, trials_section, trials_table

_MARK = "<!-- Written by `python -m bench report`; changes are lost. -->"
NO_TRIALS: Mapping[str, Sequence[Trial]] = MappingProxyType({})
_PIECES = ("figures", "tables", "REPORT.md")
_START = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
_END = re.compile(r"^<!-- end: ([\w-]+) -->$", re.MULTILINE)

_WHAT = {
    "time": "time against m, n and o",
    "memory": "peak memory against m, n and o",
    "price": "price of the Jacobian over n and o",
    "roofline": "operations per second under the machine's measured ceilings",
}


def write_report(
    runs: Iterable[Path],
    out: Path,
    trials: Iterable[Path] = (),
    curves: Sequence[Curves] = (),
    keep: Keep = EVERYTHING,
) -> list[Path]:
    """Write the report of stored runs into a folder, all of it or nothing; return what it wrote.

    `REPORT.md`, `figures/` and `tables/` of an earlier report are replaced; anything else in the
    folder stays. `keep` chooses the cases that are shown.

    Raises:
        UserError: No run, an unreadable one, or a folder that cannot or must not be written.
    """
    loaded = {Path(path): load_run(path) for path in runs}
    if not loaded:
        raise UserError(
            "a report is made from stored runs: none was given or found; measure one with "
            "`python -m bench run`"
        )
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(out)
        with tempfile.TemporaryDirectory(
            prefix=".report-", dir=out, ignore_cleanup_errors=True
        ) as work:
            new = Path(work, "new")
            _build(loaded, new, keep)
            _add_curves(curves, new)
            _add_trials(read_all(trials), new)
            _swap(new, out, Path(work, "old"))
    except OSError as error:
        raise UserError(
            f"a report needs a folder it can write: {plain(out)} is none "
            f"({plain(error.strerror or error)}); the old report stays; free space or give --out"
        ) from error
    written = [out / "REPORT.md", *(out / "figures").iterdir(), *(out / "tables").iterdir()]
    return sorted(written)


def write_table(frame: pd.DataFrame, path: Path) -> Path:
    """Write the tidy frame of every case, as CSV or Parquet by the name's ending.

    Raises:
        UserError: The file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            _write_csv(frame, unfinished)
        else:
            frame.to_parquet(unfinished, index=False)
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(
            f"a table needs a folder it can write: {plain(path)} ({plain(error.strerror or error)})"
            "; free space or give --out"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
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


def _build(loaded: dict[Path, Run], new: Path, keep: Keep) -> None:
    frame = keep(runs_frame(loaded))
    for name in ("figures", "tables"):
        (new / name).mkdir(parents=True)
    stems = _stems(frame)
    ordered = sorted(loaded.items(), key=lambda pair: (pair[1].machine.slug, pair[0].stem))
    short, sections = [], []
    for path, run in ordered:
        rows = frame[(frame["machine"] == run.machine.slug) & (frame["run"] == path.stem)]
        grown, crossed, stood = scaling(rows), crossings(rows), standings(rows)
        _write_tables(rows, grown, crossed, stood, stems, new)
        drawn = {part: _write_figures(rows, part, stems[part], run, new) for part in slices(rows)}
        sections.append(_section(rows, grown, crossed, stood, run, path.stem, drawn, stems))
        short.append(_bullets(rows) if len(rows) else f"{escape(path.stem)}: nothing was planned.")
    title = "# The gradient of a multi-output linear layer: what was measured"
    head = [_MARK, title, "## In short", *short, HOW_TO_READ]
    text = "\n\n".join([*head, *sections])
    (new / "REPORT.md").write_text(text + "\n", encoding="utf-8", newline="\n")


def _add_curves(curves: Sequence[Curves], new: Path) -> None:
    """Add what each machine's fit curves say to the end of a report."""
    for machine, some in by_machine(curves).items():
        sections = [f"## Fits on {escape(machine)}"]
        for one, name in zip(some, names(some), strict=True):
            figure = f"figures/{name}-curves.png"
            curves_figure(one).savefig(new / figure, metadata={"Software": None})
            sections.append(curves_section(one, figure))
        _append(sections, new)


def _append(sections: Sequence[str], new: Path) -> None:
    with (new / "REPORT.md").open("a", encoding="utf-8", newline="\n") as file:
        file.write("\n" + "\n\n".join(sections) + "\n")


def _add_trials(trials: Mapping[str, Sequence[Trial]], new: Path) -> None:
    """Add what the gate's trials on each machine say to the end of a report."""
    sections = []
    for name, some in trials.items():
        figure = f"figures/{name}-gate.png"
        trials_figure(some, name).savefig(new / figure, metadata={"Software": None})
        sections.append(trials_section(some, name, figure))
    if sections:
        _append(sections, new)


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


def _section(
    rows: pd.DataFrame,
    grown: pd.DataFrame,
    crossed: pd.DataFrame,
    stood: pd.DataFrame,
    run: Run,
    name: str,
    drawn: dict[Slice, dict[str, str]],
    stems: dict[Slice, str],
) -> str:
    parts = [f"## {escape(run.machine.slug)}, run {escape(name)}", method_table(run, name)]
    for part, figures in drawn.items():
        parts.append(slice_section(rows, part, figures, f"tables/{stems[part]}.csv"))
    parts += [standing_section(stood), first_call_section(rows)]
    parts += [price_section(rows), growth_section(grown), crossing_section(crossed)]
    parts += [doubt_section(rows), problem_section(rows)]
    return "\n\n".join(part for part in parts if part)


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
    paths = {}
    for what, make in draw.items():
        figure = make()
        if figure is not None:
            paths[_WHAT[what]] = f"figures/{stem}-{what}.png"
            figure.savefig(new / paths[_WHAT[what]], metadata={"Software": None})
    return paths


def _write_tables(
    rows: pd.DataFrame,
    grown: pd.DataFrame,
    crossed: pd.DataFrame,
    stood: pd.DataFrame,
    stems: dict[Slice, str],
    new: Path,
) -> None:
    for part in slices(rows):
        _write_csv(numbers(part.of(rows)), new / "tables" / f"{stems[part]}.csv")
        for what, table in (
            ("price", jacobian_price(part.of(rows))),
            ("growth", part.of(grown)),
            ("crossings", part.of(crossed)),
            ("standing", with_others(part.of(stood))),
            ("without-numbers", problems(part.of(rows))),
        ):
            if len(table):
                _write_csv(table, new / "tables" / f"{stems[part]}-{what}.csv")


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    shown = table.copy()
    for name in shown.select_dtypes(exclude=["number", "bool"]):
        shown[name] = ["" if pd.isna(value) else plain(value, 1000) for value in shown[name]]
    shown.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def _stems(frame: pd.DataFrame) -> dict[Slice, str]:
    """Return a file name for each slice; the run is named where a machine has several."""
    several = frame.groupby("machine")["run"].nunique() > 1
    stems: dict[Slice, str] = {}
    for part in slices(frame):
        names = [part.machine, part.run] if several[part.machine] else [part.machine]
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([*names, *part[2:]]))[:150]
        taken = {other.lower() for other in stems.values()}
        count = 2
        unique = stem
        while unique.lower() in taken:
            unique, count = f"{stem}-{count}", count + 1
        stems[part] = unique
    return stems


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
    temporary = readme.with_name(f".{readme.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(text.encode())
        shutil.copymode(readme, temporary)
        os.replace(temporary, readme)
    except OSError as error:
        temporary.unlink(missing_ok=True)
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
