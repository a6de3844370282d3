"""The stored trials of `paired` -> error rates of its and others' rules, and what a report tells.

A file has the trials of one machine, one JSON object a line, each a session of pytest. Those of one
version of the suite are counted together, and shown apart from others'. Needs no torch.
"""

import math
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd
from pydantic import BaseModel

from ...common.errors import single_line
from ...report.markdown import escape, markdown_table, render_template
from ...report.subject import Answer, Section, Subject
from ...stats.estimators import hodges_lehmann
from ...store.files import read_lines
from ..stored_trials import rate, rates_of


class Kind(NamedTuple):
    """A kind of trial, as `sessions.toml` explains it."""

    sessions: Mapping[int, int]  # how many are wanted, by how many pairs each has
    slowed: float = 0.0
    loaded: bool = False
    tools: int = 0


CONTENT = tomllib.loads(Path(__file__).with_name("sessions.toml").read_text(encoding="utf-8"))
SUITE: int = CONTENT["version"]
KINDS = {
    name: Kind(**how | {"sessions": {int(size): n for size, n in how["sessions"].items()}})
    for name, how in CONTENT["kind"].items()
}
SLOWED = [name for name, kind in KINDS.items() if kind.slowed]
UNCHANGED = [name for name in KINDS if name not in SLOWED]
LOADED = [name for name in UNCHANGED if KINDS[name].loaded]
PAIRED = "paired"
FAILED, DIFFERS, INCONCLUSIVE = "failed", "differs", "inconclusive"  # outcomes; and `passed`
NONE = "–"


class PairRecord(BaseModel):
    """What a session said of one pair, and what is known of it."""

    function: str
    size: int
    slowed: float  # the share by which ours does more; 0 for an unchanged pair
    outcome: Literal["passed", "failed", "inconclusive", "differs"]
    slower_than: float
    processes: int
    seconds: float  # of the session over its pairs, as it says
    log_ratios: list[float] = []
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    ours_s: float | None = None
    theirs_s: float | None = None
    ours_bytes: int | None = None
    theirs_bytes: int | None = None


class Trial(BaseModel):
    """One trial, a whole session; `suite` is the version of the suite that it is of."""

    kind: Literal[*KINDS]  # type: ignore[valid-type]
    suite: int
    number: int  # by which its pairs are drawn
    at: str
    commit: str | None
    versions: dict[str, str]
    exit_status: int
    wall_s: float  # of the whole command
    pairs: dict[str, PairRecord]
    failed_by: dict[str, list[str]] = {}  # the pairs that the rule of each other tool fails
    absent: dict[str, str] = {}  # why the rule of another tool could not judge


def read_trials(path: Path) -> list[Trial]:
    """Read the trials done so far; raises as `read_lines`."""
    return read_lines(path, Trial, "trials")


def stored_trials(results: Path) -> dict[str, list[Trial]]:
    """Return the trials that a results folder has, by machine."""
    return {path.stem: read_trials(path) for path in sorted((results / "paired").glob("*.jsonl"))}


def missing(trials: Iterable[Trial]) -> dict[tuple[str, int], int]:
    """Return how many sessions of the present suite are wanted still, by kind and pairs."""
    done = Counter((one.kind, len(one.pairs)) for one in trials if one.suite == SUITE)
    wanted = {(name, size): n for name, kind in KINDS.items() for size, n in kind.sessions.items()}
    left = {unit: number - done[unit] for unit, number in wanted.items()}
    return {unit: number for unit, number in left.items() if number > 0}


def to_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """Return one row a trial, pair and rule: whether the pair is `slowed`, and has `failed`."""
    rows = []
    for index, trial in enumerate(trials):
        of_trial = {"trial": index, "kind": trial.kind, "at": trial.at, "commit": trial.commit}
        of_trial |= {"size": len(trial.pairs), "seconds": trial.wall_s / max(1, len(trial.pairs))}
        ours = [name for name, pair in trial.pairs.items() if pair.outcome in (FAILED, DIFFERS)]
        rows += [
            {
                **of_trial,
                **{"pair": name, "rule": rule, "failed": name in failed},
                **{"slowed": pair.slowed > 0, "function": pair.function},
                "undecided": rule == PAIRED and pair.outcome == INCONCLUSIVE,
                "log_ratios": pair.log_ratios,
            }
            for rule, failed in ({PAIRED: ours} | trial.failed_by).items()
            for name, pair in trial.pairs.items()
        ]
    return pd.DataFrame(rows)


def failures(rows: pd.DataFrame, *kinds: str) -> str:
    """Return how often pairs that are unchanged fail in trials of some kinds; of one rule."""
    return rate(rows.loc[rows["kind"].isin(kinds) & ~rows["slowed"], "failed"])


def power(rows: pd.DataFrame, *kinds: str) -> str:
    """Return how often slowed pairs fail in trials of some kinds; of one rule."""
    return rate(rows.loc[rows["kind"].isin(kinds) & rows["slowed"], "failed"])


def rates_table(rows: pd.DataFrame, absent: Mapping[str, str]) -> pd.DataFrame:
    """Return one row a rule: how often it fails unchanged pairs and finds slowed ones.

    A rule that could never decide has the reason, by its name in `absent`.
    """
    found = [
        {
            "rule": rule,
            "failed, unchanged": failures(own, *UNCHANGED),
            "of them under load": failures(own, *LOADED),
            "failed beside slowed pairs": failures(own, *SLOWED),
            **{f"found, {kind}": power(own, kind) for kind in SLOWED},
        }
        for rule, own in rows.groupby("rule", sort=False)
    ]
    told = {one["rule"] for one in found}
    never = [{"rule": rule, "failed, unchanged": why} for rule, why in absent.items()]
    return pd.DataFrame(found + [one for one in never if one["rule"] not in told]).fillna(NONE)


def sizes_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a size of session and load: what `paired` did, and how long a pair took."""
    own = rows[rows["rule"] == PAIRED]
    own = own.assign(load=own["kind"].map(lambda kind: "yes" if KINDS[kind].loaded else "no"))
    found = [
        {
            "pairs": str(size),
            "loaded": load,
            "sessions": str(some["trial"].nunique()),
            "failed, unchanged": failures(some, *KINDS),
            "found, slower": power(some, *KINDS),
            "inconclusive, unchanged": rate(some.loc[~some["slowed"], "undecided"]),
            "inconclusive, slower": rate(some.loc[some["slowed"], "undecided"]),
            "s a pair, median": f"{some['seconds'].median():.1f}",
            "worst": f"{some['seconds'].max():.1f}",
        }
        for (load, size), some in own.groupby(["load", "size"])
    ]
    return pd.DataFrame(found)


def slow_downs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a kind of slow-down: what was meant, and what `paired` measured by pair."""
    slowed = rows[(rows["rule"] == PAIRED) & rows["slowed"] & rows["log_ratios"].map(bool)]
    slower = slowed["log_ratios"].map(lambda some: math.expm1(hodges_lehmann(some)))
    found = slower.groupby(slowed["kind"], sort=False).agg(["median", "min", "max"])
    return found.assign(meant=[KINDS[str(kind)].slowed for kind in found.index]).reset_index()


def subject(trials: Mapping[str, Sequence[Trial]]) -> Subject:
    """Return what a report tells of the trials of `paired`, by machine and suite, newest first."""
    sections, answers = [], []
    for machine, some in trials.items():
        for suite in sorted({one.suite for one in some}, reverse=True):
            name, own = f"{machine}, suite {suite}", [one for one in some if one.suite == suite]
            rows = to_frame(own)
            absent = {rule: why for one in own for rule, why in one.absent.items()}
            sections.append(Section(f"paired on {single_line(name)}", section(rows, absent, name)))
            if suite == max(one.suite for one in some) and rows["kind"].isin(UNCHANGED).any():
                answers.append(_answer(rows[rows["rule"] == PAIRED], name))
    return Subject(sections=lambda _: sections, answers=answers)


def section(rows: pd.DataFrame, absent: Mapping[str, str], name: str) -> str:
    """Return the report's part on the trials of one machine and suite."""
    return render_template(
        "paired_power",
        rates=rates_of(rows.drop_duplicates("trial"), name, rates_table(rows, absent)),
        sizes=markdown_table(sizes_table(rows)),
        slow_downs=slow_downs(rows),
    )


def seconds_of_a_pair(rows: pd.DataFrame) -> float:
    """Return how long a pair takes, the median over the pairs of trials without a load."""
    return float(
        rows.loc[(rows["rule"] == PAIRED) & ~rows["kind"].isin(LOADED), "seconds"].median()
    )


def _answer(rows: pd.DataFrame, name: str) -> Answer:
    """Return what the trials of one machine and suite say of `paired`."""
    failed, _, interval = failures(rows, *UNCHANGED).partition(" (")
    unit = f"unchanged pairs of functions failed ({interval}"
    said = escape(f"Of tests with paired on {name}.")
    found = [f"{power(rows, kind)} by {KINDS[kind].slowed:.0%}" for kind in SLOWED]
    took = f"A pair took {seconds_of_a_pair(rows):.0f} s, the median."
    more = escape(
        f"Of pairs whose one function was slowed it found {', '.join(found)}. {took}", 1000
    )
    return Answer("Is a test with paired to be trusted?", failed, unit, said, more)
