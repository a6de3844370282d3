"""What a gate found, for whoever asks: a terminal, Markdown, JSON, JUnit, GitHub."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pytest_benchmark import __version__ as plugin_version
from pytest_benchmark.stats import Stats
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from ..common.units import counted
from ..report.markdown import escape
from ..store.files import write_whole
from .gate import NOISY, OK, SLOW, UNDECIDED, Judged, Progress, Verdict
from .sequential import CANNOT_TELL, FASTER, NOT_SLOWER, SLOWER
from .versions import Side

SAID = {
    OK: "no slow-down",
    SLOW: "slower or worse",
    UNDECIDED: "cannot tell",
    NOISY: "the machine is too noisy for a verdict",
}
FAULTY, UNTIMED = "worse", "not timed"
WORST_FIRST = (FAULTY, SLOWER, CANNOT_TELL, UNTIMED, FASTER, NOT_SLOWER)
COLOURS = {SLOWER: "red", FASTER: "green", NOT_SLOWER: "default", CANNOT_TELL: "yellow"}


@contextmanager
def following() -> Iterator[Callable[[Progress], None]]:
    """Show how far a gate is, where a terminal is."""
    console = Console(stderr=True)
    with console.status("starting") as status:

        def show(progress: Progress) -> None:
            status.update(
                f"{progress.doing}: block {progress.blocks + 1}, {progress.open} of "
                f"{counted(progress.total, 'case')} open"
            )

        yield show


def headline(verdict: Verdict) -> str:
    """Say in one line what came out, the worst first."""
    counts = Counter(map(_verdict, verdict.cases))
    said = [f"{name} in {counts[name]}" for name in WORST_FIRST if counts[name]]
    if said:
        said[0] += f" of {counted(len(verdict.cases), 'case')}"
    if verdict.vanished:
        said.insert(0, f"{counted(len(verdict.vanished), 'kernel')} gone")
    lead = f"{SAID[verdict.code]}: " if verdict.code in (OK, NOISY) else ""
    blocks = counted(verdict.blocks, "block")
    return f"{lead}{', '.join(said)}; {blocks}, {verdict.wall_s:.0f} s"


def _verdict(case: Judged) -> str:
    if case.faults:
        return FAULTY
    return case.finding.verdict if case.finding is not None else UNTIMED


def ratio(case: Judged) -> str:
    """Write new time over old, with its interval: `1.052 (1.041-1.063)`."""
    found = case.finding
    if found is None or found.ratio is None:
        return ""
    if found.low is None or found.high is None:
        return f"{found.ratio:.3f}"
    return f"{found.ratio:.3f} ({found.low:.3f}–{found.high:.3f})"


def smallest(case: Judged) -> str:
    """Write the smallest slow-down that the blocks could have shown."""
    found = case.finding
    return "" if found is None or found.smallest is None else f"{found.smallest:+.1%}"


def _rows(verdict: Verdict) -> list[tuple[str, str, str, str, str, str]]:
    cases = sorted(verdict.cases, key=lambda case: WORST_FIRST.index(_verdict(case)))
    rows = []
    for case in cases:
        said = "; ".join([*case.faults, *case.notes])
        blocks = str(case.finding.blocks) if case.finding is not None else ""
        rows.append((case.entry.name, _verdict(case), ratio(case), smallest(case), blocks, said))
    rows += [(name, FAULTY, "", "", "", "this kernel has vanished") for name in verdict.vanished]
    rows += [(name, "new", "", "", "", "nothing to hold it against") for name in verdict.new]
    return rows


COLUMNS = ("case", "verdict", "new ÷ old (95 %)", "detectable", "blocks", "")
LEGEND = (
    "*detectable*: the smallest slow-down that the blocks of this run could have shown; empty "
    "where they are too few to say."
)


def print_verdict(verdict: Verdict) -> None:
    """Print a gate's table and its headline; what is said of a case stands below its row."""
    console = Console()
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for name in COLUMNS[:-1]:
        right = name in ("detectable", "blocks")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    kinds = {f"-{case.entry.case.device}-{case.entry.case.dtype}" for case in verdict.cases}
    alike = kinds.pop() if len(kinds) == 1 else ""
    if alike:
        console.print(f"All cases: {alike[1:]}", highlight=False)
    for *cells, said in _rows(verdict):
        cells[0] = cells[0].replace(alike, "")
        colour = COLOURS.get(cells[1], "red" if cells[1] == FAULTY else "default")
        table.add_row(*(escape_markup(cell) for cell in cells), style=colour)
        if said:
            table.add_row(f"  {escape_markup(said)}")
    console.print(table)
    if verdict.control is not None and verdict.control.ratio is not None:
        console.print(_control(verdict), highlight=False)
    console.print(headline(verdict), style="bold", highlight=False)
    for note in verdict.notes:
        console.print(note, markup=False, highlight=False)


def _control(verdict: Verdict) -> str:
    found = verdict.control
    assert found is not None
    ends = "" if found.low is None else f" ({found.low:.3f}–{found.high:.3f})"
    return f"old against old: {found.ratio:.3f}{ends} in {counted(found.blocks, 'block')}"


def as_markdown(verdict: Verdict, base: Side, head: Side) -> str:
    """Return the verdict for a pull request."""
    rows = "\n".join(
        "| " + " | ".join(escape(cell, 300) for cell in row) + " |" for row in _rows(verdict)
    )
    control = f"\n\n{_control(verdict)}." if verdict.control is not None else ""
    notes = "".join(f"\n\n{escape(note, 400)}" for note in verdict.notes)
    return (
        f"### Gate: {headline(verdict)}\n\n"
        f"New: {escape(_named(head))}. Old: {escape(_named(base))}.\n\n"
        f"| {' | '.join(COLUMNS)} |\n|{' :--- |' * len(COLUMNS)}\n{rows}\n\n"
        f"{LEGEND}{control}{notes}\n"
    )


def _named(side: Side) -> str:
    return f"{side.text} ({side.commit[:10]})" if side.commit else side.text


def as_json(verdict: Verdict, base: Side, head: Side) -> dict[str, Any]:
    """Return everything that was found, as plain JSON."""
    return {
        "code": verdict.code,
        "verdict": SAID[verdict.code],
        "base": {"text": base.text, "commit": base.commit, "digest": base.digest},
        "head": {"text": head.text, "commit": head.commit, "digest": head.digest},
        "cases": [
            {
                "name": case.entry.name,
                "verdict": _verdict(case),
                "times": case.finding._asdict() if case.finding is not None else None,
                "faults": case.faults,
                "notes": case.notes,
            }
            for case in verdict.cases
        ],
        "vanished": verdict.vanished,
        "new": verdict.new,
        "control": verdict.control._asdict() if verdict.control is not None else None,
        "notes": verdict.notes,
        "blocks": verdict.recorded,
        "wall_s": verdict.wall_s,
    }


def as_junit(verdict: Verdict) -> str:
    """Return JUnit XML: what is slower or worse has failed, what is not decided is an error.

    A case that is allowed to fail and so was not timed is skipped.
    """
    suite = ElementTree.Element("testsuite", name="mlr gate")
    allowed = {case.entry.name for case in verdict.cases if case.allowed}
    for name, found, measured, _, _, said in _rows(verdict):
        case = ElementTree.SubElement(suite, "testcase", classname="gate", name=_printable(name))
        text = _printable(f"{measured} {said}".strip())
        if found in (SLOWER, FAULTY):
            ElementTree.SubElement(case, "failure", message=text or found).text = found
        elif found in (CANNOT_TELL, UNTIMED):
            tag = "skipped" if found == UNTIMED and name in allowed else "error"
            ElementTree.SubElement(case, tag, message=f"{found}: {text}".strip(": "))
    counts = Counter(outcome.tag for case in suite for outcome in case)
    suite.attrib |= {
        "tests": str(len(suite)),
        "failures": str(counts["failure"]),
        "errors": str(counts["error"]),
        "skipped": str(counts["skipped"]),
        "time": f"{verdict.wall_s:.3f}",
    }
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def _printable(text: str) -> str:
    """Leave out what XML cannot hold."""
    return "".join(letter for letter in text if letter.isprintable())


def github_annotations(verdict: Verdict) -> list[str]:
    """Return GitHub's workflow commands: an error for what fails, a warning for what is open."""
    found = []
    for name, said, measured, _, _, more in _rows(verdict):
        if said in (SLOWER, FAULTY, CANNOT_TELL):
            level = "warning" if said == CANNOT_TELL else "error"
            text = f"{name}: {said} {measured} {more}".strip()
            found.append(f"::{level} title=gate::{_command_text(text)}")
    return found


def _command_text(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def as_benchmarks(verdict: Verdict, which: str, side: Side) -> dict[str, Any]:
    """Return one side as pytest-benchmark's own file: each datum is the median of one block.

    Args:
        verdict: What was found.
        which: `old` or `new`.
        side: That side.
    """
    found = []
    for case in verdict.cases:
        stats = Stats()
        for block in verdict.recorded:
            if f"{which}_s" in block.get(case.entry.name, {}):
                stats.update(block[case.entry.name][f"{which}_s"])
        if stats.data:
            values = {key: getattr(stats, key) for key in stats.fields}
            found.append(
                {
                    "group": case.entry.case.stage,
                    "name": case.entry.name,
                    "fullname": case.entry.name,
                    "params": None,
                    "param": None,
                    "extra_info": {},
                    "options": {},
                    "stats": {**values, "iterations": 1, "data": stats.data},
                }
            )
    return {
        "machine_info": {},
        "commit_info": {"id": side.commit or side.text, "dirty": side.commit is None},
        "benchmarks": found,
        "datetime": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": plugin_version,
    }


def write_verdict(verdict: Verdict, base: Side, head: Side, folder: Path) -> Iterable[Path]:
    """Write all of it into a folder, and to GitHub where it asks; yield the paths."""
    text = as_markdown(verdict, base, head)
    files = {
        "gate.json": json.dumps(as_json(verdict, base, head), indent=1),
        "gate.md": text,
        "gate.xml": as_junit(verdict),
        "old.json": json.dumps(as_benchmarks(verdict, "old", base)),
        "new.json": json.dumps(as_benchmarks(verdict, "new", head)),
    }
    for name, content in files.items():
        path = folder / name
        write_whole(path, content)
        yield path
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text)
    if os.environ.get("GITHUB_ACTIONS"):
        print("\n".join(github_annotations(verdict)))
