"""Trials of the gate -> how often it cries wolf and how often it misses. Needs no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import special

from ...common.errors import UserError
from ...gate.sequential import NOT_SLOWER, SLOWER
from ...report.markdown import escape, image, markdown_table
from ...report.style import GREY, label
from ...stats.passes import hodges_lehmann

# The share by which one case's new side is slowed in a trial of each kind; in the last, every one.
ALL = "all10"
KINDS = {"same": 0.0, "loaded": 0.0, "slow5": 0.05, "slow10": 0.10, "slow20": 0.20, ALL: 0.10}
MUTANT = "mutants"  # the kind of a trial with a mistake in a kernel instead
GATE = "this gate"
TIME = "time"
FOUND_BY = ("bytes", "operations", TIME)  # how the gate's sentences on a fault begin, and its times
Trial = Mapping[str, Any]


class Rate(NamedTuple):
    """A share of trials, with its exact 95 % interval (Clopper and Pearson)."""

    hits: int
    of: int
    low: float
    high: float

    def __str__(self) -> str:
        """Write it: `3 of 60 (1.0 %-13.9 %)`."""
        if not self.of:
            return "–"
        return f"{self.hits} of {self.of} ({self.low:.1%}–{self.high:.1%})"


def rate(found: Sequence[bool]) -> Rate:
    """Return the share of what is true, with its interval."""
    count, of = sum(found), len(found)
    if not of:
        return Rate(0, 0, 0.0, 1.0)
    low = special.betaincinv(count, of - count + 1, 0.025) if count else 0.0
    high = special.betaincinv(count + 1, of - count, 0.975) if count < of else 1.0
    return Rate(count, of, float(low), float(high))


def read_trials(path: Path) -> list[dict[str, Any]]:
    """Read the trials done so far; a last line that a kill left unfinished does not count.

    Raises:
        UserError: The file cannot be read, or a line of it is no trial.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        trials = [json.loads(line) for line in lines if line.endswith("\n")]
    except (OSError, ValueError) as error:
        raise UserError(f"trials are one JSON object a line; {path}: {error}") from error
    for trial in trials:
        if not (isinstance(trial, dict) and trial.get("kind") in (*KINDS, MUTANT)):
            kinds = ", ".join([*KINDS, MUTANT])
            raise UserError(f"a trial has a kind, one of {kinds}; {path} holds another")
    return trials


def added_to(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials of unchanged code and of added work, without the mutants."""
    return [trial for trial in trials if trial["kind"] in KINDS]


def read_all(paths: Iterable[Path]) -> dict[str, list[dict[str, Any]]]:
    """Read the trials of several machines; each file is named after its machine.

    Raises:
        UserError: As of `read_trials`.
    """
    found = {path.stem: read_trials(path) for path in paths}
    return {name: trials for name, trials in found.items() if trials}


def failed_cases(trial: Trial, rule: str) -> list[str]:
    """Return the cases that a rule fails in a trial; `GATE` is this suite's own."""
    if rule != GATE:
        return list(trial["stock"][rule])
    return [
        name
        for name, case in trial["cases"].items()
        if case["faults"] or (case["verdict"] == SLOWER and trial["code"] == 1)
    ]


def slowed_in(trial: Trial) -> list[str]:
    """Return the cases that were slowed."""
    if trial["kind"] == ALL:
        return list(trial["cases"])
    return [trial["slowed"]] if trial["slowed"] else []


def shown(rule: str) -> str:
    """Return a rule's name with the tool it is of."""
    return f"pytest-benchmark {rule}" if ":" in rule else rule


def rules_of(trials: Sequence[Trial]) -> list[str]:
    """Return the rules that were judged, this suite's first."""
    return [GATE, *dict.fromkeys(rule for trial in trials for rule in trial["stock"])]


def false_alarms(trials: Sequence[Trial], rule: str) -> Rate:
    """Return how often a suite fails a case that was not slowed."""
    return rate([bool(set(failed_cases(t, rule)) - set(slowed_in(t))) for t in trials])


def power(trials: Sequence[Trial], rule: str) -> Rate:
    """Return how often a slowed case fails."""
    return rate([name in failed_cases(t, rule) for t in trials for name in slowed_in(t)])


def slow_down(trials: Sequence[Trial]) -> tuple[float, float, float]:
    """Return the slow-down that was there: the median over cases, the least and the most.

    Each case's is the centre over every block of its trials.
    """
    blocks: dict[str, list[float]] = {}
    for trial in trials:
        for name in slowed_in(trial):
            blocks.setdefault(name, []).extend(trial["cases"][name]["log_ratios"])
    found = [math.expm1(hodges_lehmann(values)) for values in blocks.values() if values]
    return float(np.median(found)), min(found), max(found)


def rates_table(trials: Sequence[Trial]) -> pd.DataFrame:
    """Return one row a rule: false alarms on unchanged code, and power by size of slow-down."""
    by_kind = {kind: [t for t in trials if t["kind"] == kind] for kind in KINDS}
    still = by_kind["same"] + by_kind["loaded"]
    slowed = {kind: by_kind[kind] for kind, share in KINDS.items() if share}
    rows = []
    for rule in rules_of(trials):
        row = {
            "rule": shown(rule),
            "false alarms, unchanged": str(false_alarms(still, rule)),
            "of them under load": str(false_alarms(by_kind["loaded"], rule)),
            "false alarms beside a slowed case": str(
                false_alarms([t for k, some in slowed.items() if k != ALL for t in some], rule)
            ),
        }
        rows.append(
            row | {f"found, {kind}": str(power(some, rule)) for kind, some in slowed.items()}
        )
    return pd.DataFrame(rows)


def facts(trials: Sequence[Trial]) -> list[str]:
    """Say what the table does not: what was slowed by how much, what passed, how long it took."""
    said = []
    still = [t for t in trials if not KINDS[t["kind"]]]
    if still:
        undecided = rate([t["code"] in (3, 4) for t in still])
        walls = [t["wall_s"] for t in still]
        said.append(
            f"On unchanged code the gate could not tell, or found the machine too noisy, in "
            f"{undecided}; a verdict took {np.median(walls):.0f} s, nine in ten at most "
            f"{np.quantile(walls, 0.9):.0f} s"
        )
    for kind, share in KINDS.items():
        some = [t for t in trials if t["kind"] == kind]
        if share and some:
            middle, low, high = slow_down(some)
            verdicts = [t["cases"][name]["verdict"] for t in some for name in slowed_in(t)]
            passed = rate([verdict == NOT_SLOWER for verdict in verdicts])
            said.append(
                f"{kind}: {share:.0%} was meant, {middle:.1%} measured (by case {low:.1%} to "
                f"{high:.1%}); passed as not slower in {passed}"
            )
    return said


def more_needed(trials: Sequence[Trial], most: float = 0.05) -> int:
    """Return how many more unchanged trials without an alarm would bound their rate by `most`."""
    still = [t for t in trials if not KINDS[t["kind"]]]
    count, of = false_alarms(still, GATE).hits, len(still)
    more = 0
    while float(special.betaincinv(count + 1, of + more - count, 0.975)) > most:
        more += 1
    return more


def mutants_table(trials: Iterable[Trial]) -> pd.DataFrame:
    """Return one row a mutant: how often it was found, by what, and how much slower it is."""
    by_name: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial["kind"] == MUTANT:
            by_name.setdefault(trial["mutant"], []).append(trial)
    rows = []
    for name, some in by_name.items():
        cases = [trial["cases"][trial["slowed"]] for trial in some]
        values = [value for case in cases for value in case["log_ratios"]]
        found = {part for case in cases for part in _found_by(case)}
        rows.append(
            {
                "mutant": name,
                "case": some[-1]["slowed"],
                "found": f"{sum(bool(_found_by(case)) for case in cases)} of {len(some)}",
                "by": ", ".join(part for part in FOUND_BY if part in found),
                "time, new ÷ old": f"{math.exp(hodges_lehmann(values)):.2f}" if values else "–",
                "middle half of blocks": "–".join(
                    f"{math.exp(value):.2f}" for value in np.quantile(values, [0.25, 0.75])
                )
                if values
                else "–",
                "alarms beside": str(
                    sum(bool(set(failed_cases(t, GATE)) - set(slowed_in(t))) for t in some)
                ),
            }
        )
    return pd.DataFrame(rows)


def _found_by(case: Mapping[str, Any]) -> set[str]:
    found = {part for part in FOUND_BY for fault in case["faults"] if fault.startswith(part)}
    return found | ({TIME} if case["verdict"] == SLOWER else set())


def trials_table(trials: Sequence[Trial], name: str) -> str:
    """Return the table of a README: what each rule did, and on which machine."""
    trials = added_to(trials)
    return f"{markdown_table(rates_table(trials))}\n\n{len(trials)} trials on {escape(name)}."


def trials_section(trials: Sequence[Trial], name: str, figure: str | None) -> str:
    """Return the report's part on the gate's trials of one machine."""
    mutants, trials = mutants_table(trials), added_to(trials)
    lines = "\n".join(f"* {escape(said, 400)}." for said in facts(trials))
    cases = len(trials[0]["cases"]) if trials else 0
    parts = [
        f"How often does a rule fail code that did not change, and how often does it find one case "
        f"of {cases} that was slowed, or any of them where all were ({ALL})? Each trial is a whole "
        f"gate; beside it, on two plain runs of the same trial, the rules of other tools. In "
        f"brackets exact 95 % intervals.",
        image("Share of trials failed, by slow-down and rule", figure),
        markdown_table(rates_table(trials)),
        lines,
        _mutants_part(mutants) if len(mutants) else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _mutants_part(mutants: pd.DataFrame) -> str:
    return (
        "Mistakes that people make, each put into one kernel, with another kernel beside it "
        "that has none; its result stays right, so only what it costs can give it away:\n\n"
        f"{markdown_table(mutants)}"
    )


def trials_figure(trials: Sequence[Trial], name: str) -> Figure:
    """Draw the share of trials that each rule fails, by the size of the slow-down."""
    trials = added_to(trials)
    figure = Figure(figsize=(8, 4.4))
    figure.set_layout_engine("constrained", rect=(0, 0.05, 1, 0.95))
    axes = figure.subplots()
    colours = ("black", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
    places = sorted(set(KINDS.values()))
    measure: Callable[[Sequence[Trial], str], Rate]
    for number, rule in enumerate(rules_of(trials)):
        for place, share in enumerate(places):
            some = [t for t in trials if KINDS[t["kind"]] == share and t["kind"] != ALL]
            measure = power if share else false_alarms
            found = measure(some, rule)
            if not found.of:
                continue
            middle = found.hits / found.of
            axes.errorbar(
                place + (number - 2.5) * 0.13, middle,
                yerr=[[middle - found.low], [found.high - middle]],
                color=colours[number % len(colours)], marker="o" if rule == GATE else "s",
                markersize=7 if rule == GATE else 5, capsize=2,
                label=label(shown(rule)) if place == 0 else None,
            )  # fmt: skip
    axes.set_xticks(range(len(places)), ["unchanged", *(f"+{p:.0%}" for p in places[1:])])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("what one case was slowed by")
    axes.set_ylabel("trials that fail: 95 % interval")
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Which rule stops a slow-down, and which cries wolf?", fontsize=13,
                    fontweight="bold", x=0.01, ha="left")  # fmt: skip
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.text(0.99, 0.005, label(f"{name}, {len(trials)} trials"), ha="right", fontsize=7.5,
                color=GREY)  # fmt: skip
    return figure
