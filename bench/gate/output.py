"""What a gate found, for whoever asks: a terminal, Markdown, JSON, JUnit, GitHub."""

import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pandas as pd
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from ..common.errors import UserError
from ..common.units import counted
from ..report.markdown import escape, markdown_table
from ..store.files import atomic_write
from .blocks import BASE, HEAD
from .sequential import IMPROVEMENT, INCONCLUSIVE, REGRESSION, ExitStatus
from .verdict import FAILED, UNTIMED, WORST_FIRST, CaseVerdict, Verdict
from .versions import Version

COLOURS = {REGRESSION: "red", FAILED: "red", IMPROVEMENT: "green", INCONCLUSIVE: "yellow"}
COLUMNS = ("case", "verdict", "head ÷ base (95 %)", "MDE", "blocks", "remarks")
LEGEND = (
    "*MDE*: the minimum detectable effect, the smallest slow-down that the blocks of this run "
    "could have shown; empty where they are too few to say."
)


class Row(NamedTuple):
    """A row of the table of a verdict, a cell for each of `COLUMNS`."""

    name: str
    verdict: str
    ratio: str = ""
    effect: str = ""
    blocks: str = ""
    remarks: str = ""


def _rows(verdict: Verdict) -> list[Row]:
    """Return the rows of a verdict, the worst first; also of kernels that one version lacks."""
    cases = sorted(verdict.cases, key=lambda case: WORST_FIRST.index(case.verdict))
    return [
        *map(_row, cases),
        *(Row(name, FAILED, remarks="this kernel was removed") for name in verdict.removed),
        *(Row(name, "new", remarks="nothing to compare it with") for name in verdict.added),
    ]


def _row(case: CaseVerdict) -> Row:
    row = Row(case.benchmark.name, case.verdict, remarks="; ".join(case.remarks))
    if case.estimate is None:
        return row
    effect = case.estimate.minimum_detectable_effect
    shown = "" if effect is None else f"{effect:+.1%}"
    return row._replace(ratio=str(case.estimate), effect=shown, blocks=str(case.estimate.blocks))


def headline(verdict: Verdict) -> str:
    """Say in one line what came out, the worst first."""
    counts = Counter(case.verdict for case in verdict.cases)
    said = [f"{name} in {counts[name]}" for name in WORST_FIRST if counts[name]]
    if said:
        said[0] += f" of {counted(len(verdict.cases), 'case')}"
    if verdict.removed:
        said.insert(0, f"{counted(len(verdict.removed), 'kernel')} removed")
    status = verdict.exit_status
    lead = f"{status.words}: " if status == ExitStatus.TOO_NOISY else ""
    blocks = counted(len(verdict.blocks), "block")
    return f"{lead}{', '.join(said)}; {blocks}, {verdict.wall_s:.0f} s"


def _notes(verdict: Verdict, *lead: str) -> list[str]:
    notes = [*lead, *verdict.notes]
    if found := verdict.control:
        notes.insert(0, f"A/A control: {found} in {counted(found.blocks, 'block')}")
    return notes


def print_verdict(verdict: Verdict) -> None:
    """Print a gate's table and its headline; what is said of a case stands below its row."""
    console = Console(highlight=False)
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for name in COLUMNS[:-1]:
        right = name in ("MDE", "blocks")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    cases = [one.benchmark.case for one in verdict.cases]
    kinds = {f"-{case.device}-{case.dtype}" for case in cases}
    alike = kinds.pop() if len(kinds) == 1 else ""
    if alike:
        console.print(f"All cases: {alike[1:]}")
    for name, *cells, remarks in _rows(verdict):
        shown = [escape_markup(cell) for cell in (name.replace(alike, ""), *cells)]
        table.add_row(*shown, style=COLOURS.get(cells[0], "default"))
        if remarks:
            table.add_row(f"  {escape_markup(remarks)}")
    console.print(table)
    for line in _notes(verdict, headline(verdict)):
        console.print(line, markup=False)


def as_markdown(verdict: Verdict, base: Version, head: Version) -> str:
    """Return the verdict for a pull request."""
    parts = [
        f"### Gate: {headline(verdict)}",
        f"Head: {escape(head)}. Base: {escape(base)}.",
        markdown_table(pd.DataFrame(_rows(verdict), columns=list(COLUMNS))),
        LEGEND,
        *(escape(note, 400) for note in _notes(verdict)),
    ]
    return "\n\n".join(parts) + "\n"


def as_json(verdict: Verdict, base: Version, head: Version) -> dict[str, Any]:
    """Return everything that was found, as plain JSON."""
    versions = {
        name: {"text": one.text, "commit": one.commit, "digest": one.digest}
        for name, one in ((BASE, base), (HEAD, head))
    }
    cases = [
        {"name": one.benchmark.name, "verdict": one.verdict, **asdict(one), "remarks": one.remarks}
        for one in verdict.cases
    ]
    status = {"exit_status": verdict.exit_status, "verdict": verdict.exit_status.words}
    return status | versions | asdict(verdict) | {"cases": cases}


def as_junit(verdict: Verdict) -> str:
    """Return JUnit XML: what regressed or failed is a failure, what is not decided is an error.

    A case that is allowed to fail and so was not timed is skipped.
    """
    suite = ElementTree.Element("testsuite", name="mlr gate", time=f"{verdict.wall_s:.3f}")
    allowed = {one.benchmark.name for one in verdict.cases if one.is_allowed}
    tags = {REGRESSION: "failure", FAILED: "failure", INCONCLUSIVE: "error", UNTIMED: "error"}
    for row in _rows(verdict):
        name = _printable(row.name)
        case = ElementTree.SubElement(suite, "testcase", classname="gate", name=name)
        if tag := tags.get(row.verdict):
            tag = "skipped" if row.verdict == UNTIMED and row.name in allowed else tag
            text = _printable(f"{row.verdict}: {row.ratio} {row.remarks}")
            ElementTree.SubElement(case, tag, message=text.strip(": "))
    suite.set("tests", str(len(suite)))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{tag}"))))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def _printable(text: str) -> str:
    """Leave out what XML cannot hold, and the second of two blanks."""
    return " ".join("".join(letter for letter in text if letter.isprintable()).split())


def github_annotations(verdict: Verdict) -> list[str]:
    """Return GitHub's workflow commands: an error for what fails, a warning for what is open."""
    levels = {REGRESSION: "error", FAILED: "error", INCONCLUSIVE: "warning"}
    found = []
    for name, said, ratio, *_, remarks in _rows(verdict):
        if said in levels:
            text = f"{name}: {said} {ratio} {remarks}".strip()
            text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
            found.append(f"::{levels[said]} title=gate::{text}")
    return found


def require_writable(folder: Path) -> None:
    """Check before anything is measured that the verdict can be written, or raise a UserError."""
    try:
        atomic_write(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        raise UserError(
            f"--out must be a folder that can be written; {folder}: {error.strerror}; give another"
        ) from error


def write_verdict(verdict: Verdict, base: Version, head: Version, folder: Path) -> list[Path]:
    """Write all of it into a folder, and to GitHub where it asks; return the paths."""
    text = as_markdown(verdict, base, head)
    files = {
        folder / "gate.json": json.dumps(as_json(verdict, base, head), indent=1),
        folder / "gate.md": text,
        folder / "gate.xml": as_junit(verdict),
    }
    for path, content in files.items():
        atomic_write(path, content)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text)
    if os.environ.get("GITHUB_ACTIONS"):
        print("\n".join(github_annotations(verdict)))
    return list(files)
