"""Stored comparisons of releases of torch -> what a report tells of them. Needs no torch.

A file has the comparisons of one machine, one JSON object a line. Of those of a pair of releases
the newest is shown.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pandas as pd
from pydantic import BaseModel, StringConstraints

from ...common.errors import single_line
from ...common.units import UNKNOWN, counted
from ...gate.sequential import IMPROVEMENT, INCONCLUSIVE, NO_REGRESSION, REGRESSION
from ...report.markdown import Markdown, escape, render_template
from ...report.subject import Answer, Section, Subject
from ...report.tables import Column, format_case, render
from ...store.files import read_lines

CONTENT = tomllib.loads(Path(__file__).with_name("cases.toml").read_text(encoding="utf-8"))
SUITE: int = CONTENT["version"]
FOLDER = "torch-releases"  # of a results folder
COUNTS = ("operators", "allocations", "allocated_bytes", "function_calls")  # that are shown
ISSUES = "https://github.com/pytorch/pytorch/issues"


Release = Annotated[str, StringConstraints(pattern=r"^\d{1,3}\.\d{1,3}\.\d{1,3}$")]


class CaseRecord(BaseModel):
    """What the gate found of one case, the newer release against the older one."""

    kernel: str  # its key
    operation: str
    dtype: str
    sizes: dict[str, int]
    timing: str | None  # what its times decide; None where it was not timed
    ratio: float | None = None  # time of the newer ÷ that of the older, of the typical process
    low: float | None = None  # the ends of its 95 % interval
    high: float | None = None
    processes: int = 0
    failures: list[str] = []  # what fails it whatever its times say, in words
    work: dict[str, tuple[int, int]] = {}  # counts of one call, of the older and of the newer


class Comparison(BaseModel):
    """A release held against the one before: of `versions` the older and the newer."""

    suite: int
    releases: tuple[Release, Release]
    versions: dict[str, tuple[str, str]]  # of Python, numpy and torch as each says itself
    at: str
    commit: str | None
    dirty: bool = False
    exit_status: int
    wall_s: float
    blocks: int
    threads: int
    control: float | None  # the ratio of the older against a copy of itself
    cases: list[CaseRecord]
    notes: list[str] = []

    @property
    def title(self) -> str:
        """Both releases: `2.12.0 → 2.13.0`."""
        return " → ".join(self.releases)


class Issue(NamedTuple):
    """An issue of PyTorch, as `cases.toml` explains it."""

    number: int
    says: str
    kernels: Sequence[str]


def read_comparisons(path: Path) -> list[Comparison]:
    """Read what was stored of one machine; raises as `read_lines`."""
    return read_lines(path, Comparison, "comparisons of releases")


def stored_in(results: Path) -> dict[str, list[Comparison]]:
    """Return the comparisons that a results folder has, by machine."""
    paths = sorted((results / FOLDER).glob("*.jsonl"))
    return {path.stem: read_comparisons(path) for path in paths}


def newest(stored: Sequence[Comparison]) -> dict[tuple[str, str], Comparison]:
    """Return the newest comparison of each pair of releases on the present cases, by release."""
    found = {one.releases: one for one in stored if one.suite == SUITE}
    order = sorted(found, key=lambda pair: [[int(part) for part in one.split(".")] for one in pair])
    return {pair: found[pair] for pair in order}


def explain(timing: str | None, work: Mapping[str, Sequence[int]]) -> str:
    """Say whether a call does other work, by the counts that both sides have."""
    more = any(new > old for old, new in work.values())
    less = any(new < old for old, new in work.values())
    if timing not in (REGRESSION, IMPROVEMENT):
        return "more and less work" if more and less else "more work" * more + "less work" * less
    if not work:
        return ""
    if timing == REGRESSION:
        return "more work" if more else "the same work, slower" if not less else "less work, slower"
    return "less work" if less else "the same work, faster" if not more else "more work, faster"


def _count(work: Mapping[str, Sequence[int]], name: str) -> str:
    if name not in work:
        return UNKNOWN
    old, new = work[name]
    return f"{old:,}" if old == new else f"{old:,} → {new:,}"


def _ratio(ratio: float | None, low: float | None, high: float | None) -> str:
    if ratio is None or ratio != ratio:
        return UNKNOWN
    return f"{ratio:.3f}" + (f" ({low:.3f}–{high:.3f})" if low is not None and low == low else "")


def to_frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Return one row a case of each comparison, with what the tables say of it."""
    rows: list[dict[str, Any]] = []
    for of in comparisons:
        for one in of.cases:
            sizes = format_case("x".join(map(str, one.sizes.values())), ", ".join(one.sizes))
            kernel = one.kernel.rpartition(".")[2]
            why = filter(None, [explain(one.timing, one.work), *one.failures])
            rows.append(
                {
                    "releases": of.title,
                    "key": one.kernel,
                    "case": f"{one.operation}, {kernel}, {sizes}, {one.dtype}",
                    "timing": one.timing or "not timed",
                    "failed": bool(one.failures),
                    "other": any(new != old for old, new in one.work.values()),
                    "ratio": one.ratio,
                    "shown": _ratio(one.ratio, one.low, one.high),
                    "why": "; ".join(why),
                    **{name: _count(one.work, name) for name in COUNTS},
                }
            )
    return pd.DataFrame(rows)


COUNTED = (
    *(Column("releases", "releases"), Column("cases", "cases"), Column("slower", REGRESSION)),
    *(Column("faster", IMPROVEMENT), Column("neither", NO_REGRESSION)),
    *(Column("not decided", "open"), Column("failed", "failed")),
    *(Column("A/A control", "control"), Column("builds", "builds"), Column("measured", "at")),
)
CHANGED = (
    *(Column("releases", "releases", once=True), Column("case", "case")),
    *(Column("newer ÷ older (95 %)", "shown"), Column("by its times", "timing")),
    *(Column(name.replace("_", " "), name) for name in COUNTS),
    Column("what it is", "why"),
)

IN_A_CELL = {REGRESSION: " slower", IMPROVEMENT: " faster", INCONCLUSIVE: " not decided"}


def _overview(comparisons: Sequence[Comparison], rows: pd.DataFrame) -> pd.DataFrame:
    found = []
    for of in comparisons:
        own = rows[rows["releases"] == of.title]
        counts = {kind: int((own["timing"] == kind).sum()) for kind in
                  (REGRESSION, IMPROVEMENT, NO_REGRESSION)}  # fmt: skip
        found.append(
            {
                **{"releases": of.title, "cases": len(own), "at": of.at[:10], **counts},
                "open": len(own) - sum(counts.values()),
                "failed": int(own["failed"].sum()),
                "control": UNKNOWN if of.control is None else f"{of.control:.3f}",
                "builds": " → ".join(of.versions.get("torch", of.releases)),
            }
        )
    return pd.DataFrame(found)


def changed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the cases that moved, failed or do other work; of a pair the slowest first."""
    kept = rows[rows["timing"].isin([REGRESSION, IMPROVEMENT]) | rows["failed"] | rows["other"]]
    kept = kept.assign(of=pd.Categorical(kept["releases"], rows["releases"].unique()))
    return kept.sort_values(["of", "ratio"], ascending=[True, False], kind="stable")


def _about(issue: Issue, rows: pd.DataFrame) -> dict[str, Any]:
    """Return what the cases of an issue say, as the template has it."""
    own = rows[rows["key"].isin(issue.kernels)]
    said = own["shown"] + own["timing"].map(IN_A_CELL).fillna("")
    table = own.assign(cell=said).pivot_table(
        index="case", columns="releases", values="cell", aggfunc="last", sort=False
    )
    columns = [Column("case", "case"), *(Column(name, name) for name in map(str, table))]
    kinds = (REGRESSION, IMPROVEMENT, NO_REGRESSION)
    slower, faster, neither = ((own["timing"] == one).sum() for one in kinds)
    undecided = len(own) - slower - faster - neither
    return {
        "link": Markdown(f"[pytorch#{issue.number}]({ISSUES}/{issue.number})"),
        "says": Markdown(issue.says),
        "found": f"slower in {slower}, faster in {faster} and not decided in {undecided} of "
        f"{counted(len(own), 'comparison')}",
        "table": render(table.reset_index(), columns) if len(own) else "",
    }


def section(machine: str, comparisons: Sequence[Comparison]) -> Section:
    """Return the report's part on the releases that one machine compared."""
    rows = to_frame(comparisons)
    moved = changed(rows)
    issues = [Issue(**one) for one in CONTENT["issue"]]
    first, last = comparisons[0], comparisons[-1]
    body = render_template(
        "torch_releases",
        overview=render(_overview(comparisons, rows), COUNTED),
        changed=render(moved, CHANGED) if len(moved) else "",
        issues=[_about(one, rows) for one in issues],
        versions={name: pair[0] for name, pair in last.versions.items() if name != "torch"},
        commits=sorted({(one.commit or "unknown")[:10] for one in comparisons}),
        threads=first.threads,
    )
    return Section(f"Releases of PyTorch on {single_line(machine)}", body)


def _answer(machine: str, comparisons: Sequence[Comparison]) -> Answer:
    rows = to_frame(comparisons)
    kinds = (REGRESSION, IMPROVEMENT, NO_REGRESSION)
    slower, faster, neither = ((rows["timing"] == one).sum() for one in kinds)
    decided = slower + faster + neither
    first, last = comparisons[0].releases[0], comparisons[-1].releases[1]
    pairs = counted(len(comparisons), "pair")
    return Answer(
        "Does a newer PyTorch make it slower?",
        f"{slower} of {counted(decided, 'comparison')}",
        "that could be decided found a case slower",
        escape(
            f"{faster} became faster; {len(rows) - decided} of {len(rows)} could not be decided. "
            f"They are of {pairs} of releases, from {first} to {last}."
        ),
        escape(f"On {machine}, on its processor; the page has the table."),
    )


def subject(stored: Mapping[str, Sequence[Comparison]]) -> Subject:
    """Return what a report tells of stored comparisons, by machine."""
    shown = {machine: [*newest(some).values()] for machine, some in stored.items()}
    shown = {machine: some for machine, some in shown.items() if any(one.cases for one in some)}
    return Subject(
        sections=lambda _: [section(machine, some) for machine, some in shown.items()],
        answers=[_answer(machine, some) for machine, some in shown.items()],
    )
