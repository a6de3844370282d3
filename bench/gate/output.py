"""What a gate found, for whoever asks: a terminal, Markdown, JSON, JUnit, GitHub."""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader
from rich.console import Console

from ..common.errors import single_line
from ..common.units import counted
from ..report.markdown import RULES, render_template
from ..report.tables import Column, render
from ..store.files import atomic_write
from .blocks import BASE, HEAD
from .sequential import IMPROVEMENT, INCONCLUSIVE, REGRESSION, ExitStatus
from .verdict import FAILED, UNTIMED, Verdict
from .versions import Version

COLOURS = {REGRESSION: "red", FAILED: "red", IMPROVEMENT: "green", INCONCLUSIVE: "yellow"}
JUNIT = {REGRESSION: "failure", FAILED: "failure", INCONCLUSIVE: "error", UNTIMED: "skipped"}
GITHUB = {"failure": "error", "error": "warning"}  # JUnit's words
COLUMNS = (
    *(Column("case", "name"), Column("verdict", "verdict"), Column("head ÷ base (95 %)", "ratio")),
    *(Column("slow − fast", "slow"), Column("remarks", "remarks")),
)
# Of a comment on a pull request: how many rows of what fails, and of what is open, and characters.
COMMENT_ROWS = {"failure": 15, "error": 5}
COMMENT_NAME, COMMENT_REMARKS = 60, 120
SLOW_FAST = "slow − fast: processes slower, and faster, by the margin (bound of the excess)"
NEXT = {
    ExitStatus.NO_REGRESSION: "No regression was found.",
    ExitStatus.REGRESSION: (
        "The table names what failed. Where it is intended, --allow-regression KERNELS excuses it."
    ),
    ExitStatus.INCONCLUSIVE: "More time decides more: --max-time, or fewer cases.",
    ExitStatus.TOO_NOISY: "Run the gate again while nothing else uses the machine.",
}


class Row(NamedTuple):
    """A row of a verdict, in every output."""

    name: str
    verdict: str
    remarks: str = ""
    outcome: str | None = None  # JUnit's word for it; None where nothing is wrong
    ratio: str = ""
    slow: str = ""

    @property
    def message(self) -> str:
        """What came out, in one line."""
        slow = self.slow and f"slow − fast processes: {self.slow};"
        return " ".join(filter(None, (f"{self.verdict}:", self.ratio, slow, self.remarks)))


def _rows(verdict: Verdict) -> list[Row]:
    """Return the rows of a verdict, the worst first; also of kernels that one version lacks."""
    rows = []
    for case in verdict.worst_first:
        outcome = JUNIT.get(case.verdict)
        outcome = outcome and "skipped" if case.is_allowed else outcome
        row = Row(case.benchmark.name, case.verdict, "; ".join(case.remarks), outcome)
        if (found := case.estimate) is not None:
            slow = f"{found.slow} − {found.fast} of {found.processes}"
            slow = f"{slow} (≤ {max(0.0, found.excess_bound):.0%})"
            row = row._replace(ratio=str(found), slow=slow)
        rows.append(row)
    return [
        *rows,
        *(Row(n, FAILED, "this kernel was removed", "failure") for n in verdict.removed),
        *(Row(name, "new", "nothing to compare it with") for name in verdict.added),
    ]


def headline(verdict: Verdict) -> str:
    """Say in one line what came out, the worst first."""
    counts = Counter(case.words for case in verdict.worst_first)
    said = [f"{words} in {count}" for words, count in counts.items()]
    if said:
        said[0] += f" of {counted(len(verdict.cases), 'case')}"
    if verdict.removed:
        said.insert(0, f"{counted(len(verdict.removed), 'kernel')} removed")
    noisy = verdict.exit_status == ExitStatus.TOO_NOISY
    lead = "the machine is too noisy for a verdict: " * noisy
    blocks = counted(len(verdict.blocks), "block")
    return f"{lead}{', '.join(said)}; {blocks}, {verdict.wall_s:.0f} s"


def in_words(verdict: Verdict) -> str:
    """Say what came out in a word or two: `no regression`."""
    return verdict.exit_status.name.lower().replace("_", " ")


def print_verdict(verdict: Verdict, written: Sequence[Path] = ()) -> None:
    """Print a gate's table and its headline; what is said of a case stands below the table."""
    console, rows = Console(highlight=False), _rows(verdict)
    kinds = {f"-{one.benchmark.case.device}-{one.benchmark.case.dtype}" for one in verdict.cases}
    alike = kinds.pop() if len(kinds) == 1 else ""
    every = f", all of {alike[1:]}" if alike else ""
    console.print(f"Head against base in {counted(len(verdict.cases), 'case')}{every}")
    if alike:
        rows = [row._replace(name=row.name.replace(alike, "")) for row in rows]
    table = render(pd.DataFrame(rows), COLUMNS[:-1], "console")
    for line, row in zip(table.rows, rows, strict=True):
        line.style = COLOURS.get(row.verdict)
    console.print(table)
    if any(row.slow for row in rows):
        console.print(SLOW_FAST)
    remarks = [f"{row.name}: {row.remarks}" for row in rows if row.remarks]
    for text in (*remarks, *verdict.notes):
        console.print(text, markup=False)
    console.print(f"\nVerdict: {headline(verdict)}", style="bold", markup=False)
    console.print(f"{NEXT[verdict.exit_status]} (exit status {verdict.exit_status:d})")
    for path in written:
        console.print(f"Stored {path}", markup=False, soft_wrap=True)


def as_json(verdict: Verdict, base: Version, head: Version) -> dict[str, Any]:
    """Return everything that was found, as plain JSON."""
    sides = zip((BASE, HEAD), (base, head), strict=True)
    versions = {name: {"text": one.text, "commit": one.commit} for name, one in sides}
    cases = [
        {"name": one.benchmark.name, "verdict": one.verdict, **asdict(one), "remarks": one.remarks}
        for one in verdict.cases
    ]
    status = {"exit_status": verdict.exit_status, "verdict": in_words(verdict)}
    return status | versions | asdict(verdict) | {"cases": cases}


def as_comment(verdict: Verdict, base: Version, head: Version) -> str:
    """Return what a pull request is told, as Markdown: 36 lines at most, whatever came out.

    What fails comes first, then what is open, of each the first few. Names mention nobody on GitHub
    and refer to nothing.
    """
    shown, left_out = [], []
    for (outcome, most), words in zip(COMMENT_ROWS.items(), ("fail", "are open"), strict=True):
        rows = [row for row in _rows(verdict) if row.outcome == outcome]
        for row in rows[:most]:
            name, remarks = row.name, row.remarks
            cut = single_line(name, COMMENT_NAME), single_line(remarks, COMMENT_REMARKS)
            shown.append(row._replace(name=cut[0], remarks=cut[1]))
        if rows[most:]:
            left_out.append(f"{len(rows) - most} more {words}")
    columns = [one for one in COLUMNS if one.names != ["slow"]]
    text = render_template(
        "gate_comment",
        words=in_words(verdict),
        results=render(pd.DataFrame(shown), columns) if shown else "",
        left_out=left_out,
        headline=headline(verdict),
        todo=NEXT[verdict.exit_status],
        base=base,
        head=head,
    )
    # GitHub finds mentions and references once entities are read; a space of no width stops it.
    return re.sub(r"(&#64;|(?<!&)#(?=\d)|\bGH-(?=\d))", r"\1&#8203;", text)


def as_junit(verdict: Verdict) -> str:
    """Return JUnit XML: what regressed or failed is a failure, what is not decided is an error.

    A case that is allowed to fail, or that fails already in the base, is skipped.
    """
    rows = _rows(verdict)
    environment = Environment(loader=PackageLoader(__package__, ""), autoescape=True, **RULES)
    return environment.get_template("junit.xml.j2").render(
        rows=rows,
        headline=headline(verdict),
        counts=Counter(row.outcome for row in rows),
        seconds=verdict.wall_s,
        line=lambda text: single_line(text, 2_000),  # XML cannot hold control characters
    )


def write_verdict(verdict: Verdict, base: Version, head: Version, folder: Path) -> list[Path]:
    """Write all of it into a folder, and to GitHub where it asks; return the paths.

    A pull request gets the Markdown as its summary, and annotations: an error for what fails, a
    warning for what is open.
    """
    rows = _rows(verdict)
    results = render(pd.DataFrame(rows), COLUMNS)
    text = render_template(
        "gate", headline=headline(verdict), results=results, base=base, head=head, verdict=verdict
    )
    files = {
        folder / "gate.json": json.dumps(as_json(verdict, base, head), indent=1),
        folder / "gate.md": f"{text}\n",
        folder / "gate-comment.md": f"{as_comment(verdict, base, head)}\n",
        folder / "gate.xml": as_junit(verdict),
    }
    for path, content in files.items():
        atomic_write(path, content)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
    for row in rows if os.environ.get("GITHUB_ACTIONS") else []:
        if level := GITHUB.get(str(row.outcome)):
            said = single_line(f"{row.name}: {row.message}", 2_000).replace("%", "%25")
            print(f"::{level} title=gate::{said}")
    return list(files)
