"""The stored trials of the gate -> error rates of its and others' rules, and what a report tells.

A file has the trials of one machine, one JSON object a line. Those of one version of the suite are
counted together, and shown apart from others'. Needs no torch.
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
from ...gate.sequential import NO_REGRESSION, REGRESSION, ExitStatus
from ...report.markdown import Markdown, escape, markdown_table, render_template
from ...report.subject import Answer, Section, Subject
from ...stats.estimators import hodges_lehmann
from ...store.files import read_lines
from ..stored_trials import rate, rates_of


class Kind(NamedTuple):
    """A kind of trial, as `trials.toml` explains it."""

    wanted: int
    slowed: float = 0.0
    every_case: bool = False
    loaded: bool = False
    interpreters: bool = False
    tools: int = 0


CONTENT = tomllib.loads(Path(__file__).with_name("trials.toml").read_text(encoding="utf-8"))
SUITE: int = CONTENT["version"]
KINDS = {name: Kind(**how) for name, how in CONTENT["kind"].items()}
MUTATION = "mutation"
SLOWED = [name for name, kind in KINDS.items() if kind.slowed]
SLOWED_ONE = [name for name in SLOWED if not KINDS[name].every_case]
UNCHANGED = [name for name in KINDS if name not in (*SLOWED, MUTATION)]
LOADED = [name for name in UNCHANGED if KINDS[name].loaded]
INTERPRETERS = [name for name in UNCHANGED if KINDS[name].interpreters]
GATE = "this gate"


class CaseRecord(BaseModel):
    """What a trial found of one case; of each exact failure the metric, base and head."""

    timing: str | None
    failures: list[tuple[str, int | float | str, int | float | str]]
    log_ratios: list[float]

    @property
    def found_by(self) -> set[str]:
        """What fails it: exact metrics, and `time`."""
        slower = {"time"} if self.timing == REGRESSION else set()
        return {metric for metric, *_ in self.failures} | slower


class Trial(BaseModel):
    """One trial, a whole gate; `suite` is the version of the suite that it is of."""

    kind: Literal[*KINDS]  # type: ignore[valid-type]
    suite: int
    at: str
    commit: str | None
    exit_status: int
    wall_s: float
    blocks: int
    control: float | None
    cases: dict[str, CaseRecord]
    changed: str | None = None  # the case whose head differs from its base; None for none, or all
    mutation: str | None = None  # the mistake that was put into its kernel
    baselines: dict[str, list[str]] = {}  # the cases that the rule of each other tool fails


def read_trials(path: Path) -> list[Trial]:
    """Read the trials done so far; raises as `read_lines`."""
    return read_lines(path, Trial, "trials")


def missing(trials: Iterable[Trial]) -> dict[tuple[str, str | None], int]:
    """Return how many trials of the present suite are wanted still, by kind and mutation."""
    done = Counter((one.kind, one.mutation) for one in trials if one.suite == SUITE)
    mutations = [one["name"] for one in CONTENT["mutation"]]
    units = [(kind, name) for kind in KINDS for name in (mutations if kind == MUTATION else [None])]
    left = {unit: KINDS[unit[0]].wanted - done[unit] for unit in units}
    return {unit: count for unit, count in left.items() if count > 0}


def to_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """Return one row a trial, case and rule: whether the case was `changed`, and has `failed`."""
    rows = []
    for number, trial in enumerate(trials):
        of_trial = trial.model_dump(exclude={"cases", "baselines", "changed"})
        stopped = trial.exit_status == ExitStatus.REGRESSION
        by_gate = [name for name, case in trial.cases.items() if stopped and case.found_by]
        rows += [
            {
                **of_trial,
                **{"trial": number, "case": name, "found_by": case.found_by},
                **{"timing": case.timing, "log_ratios": case.log_ratios},
                "changed": KINDS[trial.kind].every_case or name == trial.changed,
                "rule": rule,
                "failed": name in failed,
            }
            for rule, failed in ({GATE: by_gate} | trial.baselines).items()
            for name, case in trial.cases.items()
        ]
    return pd.DataFrame(rows)


def false_alarms(rows: pd.DataFrame, *kinds: str) -> str:
    """Return how often a trial of some kinds fails a case that was not changed; of one rule."""
    rows = rows[rows["kind"].isin(kinds)]
    return rate((rows["failed"] & ~rows["changed"]).groupby(rows["trial"]).any())


def power(rows: pd.DataFrame, *kinds: str) -> str:
    """Return how often a changed case fails in trials of some kinds; of one rule."""
    return rate(rows.loc[rows["kind"].isin(kinds) & rows["changed"], "failed"])


def rates_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a rule: false alarms on unchanged code, and power by size of slow-down."""
    found = [
        {
            "rule": rule,
            "false alarms, unchanged": false_alarms(own, *UNCHANGED),
            "of them under load": false_alarms(own, *LOADED),
            "of them with two interpreters": false_alarms(own, *INTERPRETERS),
            "false alarms beside a slowed case": false_alarms(own, *SLOWED_ONE),
            **{f"found, {kind}": power(own, kind) for kind in SLOWED},
        }
        for rule, own in rows.groupby("rule", sort=False)
    ]
    return pd.DataFrame(found)


def slow_downs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a kind of slow-down: what was meant, what the gate measured and passed."""
    slowed = rows[(rows["rule"] == GATE) & rows["changed"] & rows["kind"].isin(SLOWED)]
    logs = slowed.explode("log_ratios").dropna(subset="log_ratios")
    by_case = logs.groupby(["kind", "case"], sort=False)["log_ratios"]
    slower = by_case.agg(lambda some: math.expm1(hodges_lehmann(list(some))))
    found = slower.groupby("kind", sort=False).agg(["median", "min", "max"])
    passed = (slowed["timing"] == NO_REGRESSION).groupby(slowed["kind"]).agg(rate)
    meant = [KINDS[str(kind)].slowed for kind in found.index]
    return found.assign(meant=meant).join(passed.rename("passed")).reset_index()


def mutations_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a mutation: how often it was found, by what, and how much slower it is."""
    mutated = rows[(rows["rule"] == GATE) & (rows["kind"] == MUTATION)]
    found = []
    for name, own in mutated.groupby("mutation", sort=False):
        changed = own[own["changed"]]
        logs = changed["log_ratios"].explode().dropna().astype(float).to_list()
        found.append(
            {
                "mutation": name,
                "case": changed["case"].iloc[-1],
                "found": f"{changed['found_by'].map(bool).sum()} of {len(changed)}",
                "by": ", ".join(sorted(set().union(*changed["found_by"]))),
                "time, head ÷ base": f"{math.exp(hodges_lehmann(logs)):.2f}" if logs else "–",
                "false alarms": str((own["failed"] & ~own["changed"]).sum()),
            }
        )
    return pd.DataFrame(found)


def subject(trials: Mapping[str, Sequence[Trial]]) -> Subject:
    """Return what a report tells of the gate's trials, by machine and suite, the newest first."""
    frames = {
        f"{machine}, suite {suite}": to_frame([one for one in some if one.suite == suite])
        for machine, some in trials.items()
        for suite in sorted({one.suite for one in some}, reverse=True)
    }
    main = {machine: _main_suite(some) for machine, some in trials.items()}
    told = [f"{machine}, suite {suite}" for machine, suite in main.items() if suite is not None]
    tables = "\n\n".join(trials_table(frames[name], name) for name in told)
    return Subject(
        sections=lambda _: [
            Section(f"The gate on {single_line(name)}", trials_section(rows, name))
            for name, rows in frames.items()
        ],
        readme={"gate": tables or "No trials of unchanged code are stored yet."},
        answers=[_answer(frames[name], name) for name in told],
    )


def badge(trials: Sequence[Trial]) -> dict[str, str | int]:
    """Return a badge as shields.io reads it: how often the gate failed code that did not change."""
    suite = _main_suite(trials)
    unchanged = [one for one in trials if one.suite == suite and one.kind in UNCHANGED]
    failed = sum(one.exit_status == ExitStatus.REGRESSION for one in unchanged)
    told = f"{failed} of {len(unchanged)} unchanged" if unchanged else "not tried yet"
    colour = "lightgrey" if not unchanged else "red" if failed * 100 > len(unchanged) else "green"
    return {"schemaVersion": 1, "label": "gate, false alarms", "message": told, "color": colour}


def _main_suite(trials: Iterable[Trial]) -> int | None:
    """Return the suite with the most trials of unchanged code, or the newest of these, if any.

    What only found slow-downs does not tell how often it would have found one by mistake.
    """
    suites = Counter(one.suite for one in trials if one.kind in UNCHANGED)
    return max(suites, key=lambda suite: (suites[suite], suite), default=None)


def _answer(rows: pd.DataFrame, name: str) -> Answer:
    """Return what the trials of one machine and suite say of the gate."""
    own = rows[rows["rule"] == GATE]
    one = own[own["kind"].isin(SLOWED_ONE)]
    found = [f"{power(some, str(kind))} by {KINDS[str(kind)].slowed:.0%}"
             for kind, some in one.groupby("kind", sort=False)]  # fmt: skip
    said = escape(f"Of whole gates on {name}.")
    more = escape(f"Of cases that were slowed it found {', '.join(found)}.", 1000)
    alarms, _, interval = false_alarms(own, *UNCHANGED).partition(" (")
    unit = f"false alarms on unchanged code ({interval}"
    return Answer("Is the gate to be trusted?", alarms, unit, said, more)


def trials_table(rows: pd.DataFrame, name: str) -> Markdown:
    """Return what each rule did, and in how many trials, from which days and of which commits."""
    trials = rows[rows["kind"] != MUTATION].drop_duplicates("trial")
    return rates_of(trials, name, rates_table(rows))


def trials_section(rows: pd.DataFrame, name: str) -> str:
    """Return the report's part on the gate's trials of one machine and suite."""
    still = rows[rows["kind"].isin(UNCHANGED)].drop_duplicates("trial")
    mutations = mutations_table(rows)
    return render_template(
        "gate_power",
        cases=rows.loc[rows["kind"] != MUTATION, "case"].nunique(),
        slowed_all=", ".join(kind for kind in SLOWED if KINDS[kind].every_case),
        table=trials_table(rows, name),
        wall_s=still["wall_s"],
        undecided=rate(still["exit_status"].isin([ExitStatus.INCONCLUSIVE, ExitStatus.TOO_NOISY])),
        slow_downs=slow_downs(rows),
        mutations=markdown_table(mutations) if len(mutations) else "",
    )
