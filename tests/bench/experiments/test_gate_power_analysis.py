"""What the trials of the gate say, and what the rules of other tools say of known rounds."""

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.common.errors import UserError
from bench.experiments.gate_power import analysis as gate
from bench.experiments.gate_power.experiment import DETECTORS, PROTOCOLS, judge
from bench.gate.sequential import INCONCLUSIVE, NO_REGRESSION, REGRESSION
from bench.store.files import append_line

RULE = "rule of pytest-benchmark min:5% on one process"


def case(timing: str, *metrics: str, ratio: float = 1.0) -> dict[str, Any]:
    return {
        "timing": timing,
        "failures": [(metric, 1, 2) for metric in metrics],
        "log_ratios": [math.log(ratio)] * 6,
    }


def trial(kind: str, *slower: str, changed: str | None = None, **more: Any) -> gate.Trial:
    cases = {
        name: case(
            REGRESSION if name in slower else NO_REGRESSION,
            ratio=1.06 if name == changed else 1.0,
        )
        for name in ("a", "b")
    }
    usual: dict[str, Any] = {
        **{"kind": kind, "suite": 1, "at": "2026-01-01", "commit": None, "blocks": 6},
        **{"exit_status": 1 if slower else 0, "wall_s": 30.0, "changed": changed},
        **{"cases": cases, "control": None, "baselines": {RULE: ["a"]}},
    }
    return gate.Trial(**usual | more)


TRIALS = [
    *(trial("a_a") for _ in range(18)),
    trial("a_a", exit_status=3),
    trial("a_a_loaded", "b"),
    *(trial("slowdown-5", "a", changed="a") for _ in range(3)),
    trial("slowdown-5", "b", changed="a"),
    trial("slowdown-5", changed="a", exit_status=3),
]
ROWS = gate.to_frame(TRIALS)


def of(rule: str, trials: list[gate.Trial]) -> pd.DataFrame:
    rows = gate.to_frame(trials)
    return rows[rows["rule"] == rule]


def alarms(rule: str, trials: list[gate.Trial]) -> str:
    return gate.false_alarms(of(rule, trials), *gate.KINDS)


def power(rule: str, trials: list[gate.Trial]) -> str:
    return gate.power(of(rule, trials), *gate.KINDS)


def test_alarms_and_power_are_counted_apart() -> None:
    still, slowed = TRIALS[:20], TRIALS[20:]
    assert alarms(gate.GATE, still).startswith("1 of 20 ")
    assert alarms(RULE, still).startswith("20 of 20 ")
    assert alarms(gate.GATE, slowed).startswith("1 of 5 ")  # the case beside the slowed one
    assert power(gate.GATE, slowed).startswith("3 of 5 ")
    assert alarms(RULE, slowed).startswith("0 of 5 ")
    assert alarms(gate.GATE, [trial("a_a", "a", exit_status=4)]).startswith("0 of 1 ")


@pytest.mark.parametrize(
    ("hits", "of", "said"),
    [
        (0, 0, "–"),
        (0, 60, f"0 of 60 (0.0%–{1 - 0.025 ** (1 / 60):.1%})"),
        (60, 60, f"60 of 60 ({0.025 ** (1 / 60):.1%}–100.0%)"),
        (29, 30, "29 of 30 (82.8%–99.9%)"),
    ],
)
def test_a_rate_has_its_exact_interval(hits: int, of: int, said: str) -> None:
    assert gate.rate([True] * hits + [False] * (of - hits)) == said


def test_the_section_shows_every_rule() -> None:
    table = gate.rates_table(ROWS)
    assert list(table["rule"]) == [gate.GATE, RULE]
    assert table.loc[0, "found, slowdown-5"] == power(gate.GATE, TRIALS[20:])
    said = gate.trials_section(ROWS, "a<b>")
    assert gate.trials_table(ROWS, "a<b>") in said
    assert "5% was meant, 6.0% measured" in said
    assert "the gate was inconclusive" in said
    assert f"{len(TRIALS)} trials on a&lt;b&gt;" in gate.trials_table(ROWS, "a<b>")


def test_a_torn_trial_does_not_count_and_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    assert gate.read_trials(path) == []
    append_line(path, TRIALS[0].model_dump_json())
    whole = path.read_text()
    path.write_text(whole + whole[:40])
    assert gate.read_trials(path) == [TRIALS[0]]
    append_line(path, TRIALS[-1].model_dump_json())
    assert gate.read_trials(path) == [TRIALS[0], TRIALS[-1]]
    for text in ("[]\n", json.dumps(json.loads(whole) | {"kind": "same"}) + "\n", "x\n"):
        path.write_text(whole + text)
        with pytest.raises(UserError, match="trial") as error:
            gate.read_trials(path)
        assert "\n" not in str(error.value)


def test_the_rules_of_others_fail_what_is_slower_and_pass_what_is_the_same() -> None:
    """Rounds of one process mislead them: one that is 12 % slower throughout makes them certain."""
    random = np.random.default_rng(0)
    old = list(1e-5 * (1 + 0.01 * random.random(30)))
    for share, protocol in product((1.12, 1.2), PROTOCOLS):
        new = list(share * 1e-5 * (1 + 0.01 * random.random(30)))
        found = judge(protocol["rules"], {"a": old, "b": old}, {"a": new, "b": old})
        assert set(found) == set(protocol["rules"])
        assert all(cases == ["a"] for cases in found.values()), found
    assert {rule for one in PROTOCOLS for rule in one["rules"].values()} == set(DETECTORS)


def test_suites_are_told_apart_the_newest_first_and_each_with_its_days_and_commits() -> None:
    new = trial("a_a_interpreters", suite=2, at="2026-02-03T04:05:06+00:00", commit="b" * 40)
    older = trial("a_a", suite=2, at="2026-02-01T04:05:06+00:00", commit="c" * 40)
    last = trial("a_a", suite=2, at="2026-02-03T05:05:06+00:00", commit="b" * 40)
    told = gate.subject({"a": [*TRIALS, new, older, last], "b": TRIALS, "empty": []})
    titles = [section.title for section in told.sections({})]
    assert titles == ["The gate on a, suite 2", "The gate on a, suite 1", "The gate on b, suite 1"]
    two = "3 trials on a, suite 2, 2026-02-01 to 2026-02-03, of commits ccccccc, bbbbbbb."
    newest, *_ = (section.body for section in told.sections({}))
    assert two in newest
    assert "| 0 of 3 (0.0%–70.8%) " in newest
    assert "| 0 of 1 (0.0%–97.5%) " in newest
    readme = told.readme["gate"]  # of each machine the suite with the most
    assert "25 trials on a, suite 1, 2026-01-01, of commits unknown." in readme
    assert two not in readme
    assert readme.count("trials on ") == 2


def test_the_answer_and_the_badge_are_of_the_suite_with_the_most_unchanged_trials() -> None:
    newer = mutation("addmm undone", REGRESSION)
    (answer,) = gate.subject({"a": [*TRIALS, newer.model_copy(update={"suite": 2})]}).answers
    assert answer.figure == "1 of 20"
    assert "on a, suite 1" in answer.said
    assert "3 of 5 (" in answer.more
    assert gate.subject({"a": [newer]}).answers == []
    for count, suite in ((19, 1), (20, 2)):  # beside 20 of suite 1, of which one failed
        all_of = [*TRIALS, *[trial("a_a", suite=2)] * count]
        (answer,) = gate.subject({"a": all_of}).answers
        assert f"on a, suite {suite}" in answer.said
        assert (
            gate.badge(all_of)["message"] == {1: "1 of 20 unchanged", 2: "0 of 20 unchanged"}[suite]
        )


def test_a_suite_of_which_there_are_but_mutations_is_told() -> None:
    told = gate.subject({"a": [mutation("addmm undone", REGRESSION)]})
    (section,) = told.sections({})
    assert "addmm undone" in section.body
    assert "0 trials on a, suite 1" in section.body
    assert told.readme["gate"] == "No trials of unchanged code are stored yet."


def test_trials_that_are_wanted_still_are_those_of_the_present_suite() -> None:
    def wanted(trials: list[gate.Trial]) -> dict[tuple[str, str | None], int]:
        return gate.missing(trials)

    nothing, kind = wanted([]), gate.KINDS["a_a"]
    assert nothing["a_a", None] == kind.wanted
    assert wanted([trial("a_a")]) == nothing
    new = trial("a_a", suite=gate.SUITE)
    assert wanted([new])["a_a", None] == kind.wanted - 1
    assert ("a_a", None) not in wanted([new] * kind.wanted)
    one = mutation("addmm undone", REGRESSION).model_copy(update={"suite": gate.SUITE})
    left = wanted([one])
    assert left[gate.MUTATION, "addmm undone"] == gate.KINDS[gate.MUTATION].wanted - 1
    assert left[gate.MUTATION, "the Kronecker way"] == gate.KINDS[gate.MUTATION].wanted


def test_where_all_is_slowed_each_case_counts_and_none_stands_beside() -> None:
    some = [trial("slowdown-all-10", "a", "b"), trial("slowdown-all-10", "b")]
    assert power(gate.GATE, some).startswith("3 of 4 ")
    assert alarms(gate.GATE, some).startswith("0 of 2 ")
    column = "false alarms beside a slowed case"
    beside = gate.rates_table(gate.to_frame([*TRIALS, *some]))[column]
    assert beside[0] == gate.rates_table(ROWS)[column][0]


def mutation(name: str, timing: str, *metrics: str, beside: str = NO_REGRESSION) -> gate.Trial:
    cases = {"a": case(timing, *metrics, ratio=1.5), "b": case(beside)}
    return trial(
        gate.MUTATION, mutation=name, changed="a", exit_status=1, cases=cases, baselines={}
    )


def test_a_mutation_is_found_by_what_it_costs_and_by_nothing_else() -> None:
    trials = [
        *TRIALS,
        mutation("copies", REGRESSION, "peak_bytes"),
        mutation("copies", NO_REGRESSION, "peak_bytes"),
        mutation("loops", REGRESSION, beside=REGRESSION),
        mutation("loops", INCONCLUSIVE),
    ]
    table = gate.mutations_table(gate.to_frame(trials)).set_index("mutation")
    assert list(table["found"]) == ["2 of 2", "1 of 2"]
    assert list(table["by"]) == ["peak_bytes, time", "time"]
    assert list(table["false alarms"]) == ["0", "1"]
    assert set(table["time, head ÷ base"]) == {"1.50"}


def test_mutations_are_no_trials_of_the_rates() -> None:
    mixed = gate.to_frame([*TRIALS, mutation("<b>loops</b>", REGRESSION)])
    assert gate.trials_table(mixed, "here") == gate.trials_table(ROWS, "here")
    assert "&lt;b&gt;loops" in gate.trials_section(mixed, "here")
    assert "Mistakes" not in gate.trials_section(ROWS, "here")
