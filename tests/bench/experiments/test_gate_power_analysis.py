"""What the trials of the gate say, and what the rules of others say of known rounds."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.common.errors import UserError
from bench.experiments.gate_power.analysis import (
    ALL,
    GATE,
    MUTANT,
    added_to,
    facts,
    false_alarms,
    more_needed,
    mutants_table,
    power,
    rate,
    rates_table,
    read_trials,
    slow_down,
    trials_figure,
    trials_section,
    trials_table,
)
from bench.experiments.gate_power.baselines import RULES, judge
from bench.gate.sequential import CANNOT_TELL, NOT_SLOWER, SLOWER


def trial(kind: str, *slower: str, slowed: str | None = None, **changed: Any) -> dict[str, Any]:
    cases = {
        name: {
            "verdict": SLOWER if name in slower else NOT_SLOWER,
            "faults": [],
            "log_ratios": [math.log(1.06 if name == slowed else 1.0)] * 6,
        }
        for name in ("a", "b")
    }
    usual = {
        **{"kind": kind, "code": 1 if slower else 0, "wall_s": 30.0, "slowed": slowed},
        **{"cases": cases, "stock": {"min:5%": ["a"]}},
    }
    return usual | changed


TRIALS = [
    *(trial("same") for _ in range(18)),
    trial("same", code=3),
    trial("loaded", "b"),
    *(trial("slow5", "a", slowed="a") for _ in range(3)),
    trial("slow5", "b", slowed="a"),
    trial("slow5", slowed="a", code=3),
]


def test_alarms_and_power_are_counted_apart() -> None:
    still = [one for one in TRIALS if one["slowed"] is None]
    slowed = [one for one in TRIALS if one["slowed"]]
    assert false_alarms(still, GATE)[:2] == (1, 20)
    assert false_alarms(still, "min:5%")[:2] == (20, 20)
    assert false_alarms(slowed, GATE)[:2] == (1, 5)  # the case beside the slowed one
    assert power(slowed, GATE)[:2] == (3, 5)
    assert false_alarms(slowed, "min:5%")[:2] == (0, 5)
    assert slow_down(slowed) == pytest.approx((0.06, 0.06, 0.06))


def test_a_suite_too_noisy_for_a_verdict_did_not_fail() -> None:
    assert false_alarms([trial("same", "a", code=4)], GATE).hits == 0


def test_a_rate_has_its_exact_interval() -> None:
    assert rate([]).of == 0
    none = rate([False] * 60)
    assert none.low == 0
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 60))
    assert str(none).startswith("0 of 60 (0.0%–6.0%)")


def test_how_many_more_a_bound_needs() -> None:
    calm = [trial("same") for _ in range(10)]
    more = more_needed(calm)
    assert rate([False] * (10 + more)).high <= 0.05 < rate([False] * (9 + more)).high
    assert more_needed([trial("same")] * 100) == 0


def test_the_section_and_the_figure_show_every_rule() -> None:
    table = rates_table(TRIALS)
    assert list(table["rule"]) == [GATE, "pytest-benchmark min:5%"]
    assert table.loc[0, "found, slow5"] == str(power(TRIALS[-5:], GATE))
    text = trials_section(TRIALS, "a<b>", "figures/a.png")
    assert "<b>" not in text
    assert "5% was meant, 6.0% measured" in text
    assert f"{len(TRIALS)} trials on a&lt;b&gt;" in trials_table(TRIALS, "a<b>")
    labels = trials_figure(TRIALS, "a").axes[0].get_legend_handles_labels()[1]
    assert labels == [GATE, "pytest-benchmark min:5%"]
    assert any("could not tell" in said for said in facts(TRIALS))
    assert CANNOT_TELL == "cannot tell"


def test_a_torn_trial_does_not_count_and_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    assert read_trials(path) == []
    whole = json.dumps(TRIALS[0]) + "\n"
    path.write_text(whole + whole[:40])
    assert read_trials(path) == [TRIALS[0]]
    for text in ("[]\n", '{"kind": "other"}\n', "x\n"):
        path.write_text(whole + text)
        with pytest.raises(UserError, match="trial"):
            read_trials(path)


def test_the_rules_of_others_fail_what_is_slower_and_pass_what_is_the_same() -> None:
    random = np.random.default_rng(0)
    old = list(1e-5 * (1 + 0.01 * random.random(30)))
    found = judge({"a": old, "b": old}, {"a": [1.2 * value for value in old], "b": old})
    assert set(found) == set(RULES)
    assert all(cases == ["a"] for cases in found.values()), found


def test_rounds_of_one_process_mislead_them() -> None:
    """A process 11 % slower from start to end, as happens: thousands of rounds make it certain."""
    random = np.random.default_rng(1)
    old = list(1e-5 * (1 + 0.01 * random.random(30)))
    new = list(1.12e-5 * (1 + 0.01 * random.random(30)))
    assert all(judge({"a": old}, {"a": new}).values())


def test_where_all_is_slowed_each_case_counts_and_none_stands_beside() -> None:
    some = [trial(ALL, "a", "b"), trial(ALL, "b")]
    assert power(some, GATE)[:2] == (3, 4)
    assert false_alarms(some, GATE)[:2] == (0, 2)
    beside = rates_table([*TRIALS, *some])["false alarms beside a slowed case"]
    assert beside[0] == rates_table(TRIALS)["false alarms beside a slowed case"][0]


def mutant(name: str, verdict: str, *faults: str, beside: str = NOT_SLOWER) -> dict[str, Any]:
    mine = {"verdict": verdict, "faults": list(faults), "log_ratios": [math.log(1.5)] * 6}
    other = {"verdict": beside, "faults": [], "log_ratios": [0.0] * 6}
    return {"kind": MUTANT, "mutant": name, "slowed": "a", "code": 1, "wall_s": 9.0,
            "cases": {"a": mine, "b": other}}  # fmt: skip


def test_a_mutant_is_found_by_what_it_costs_and_by_nothing_else() -> None:
    table = mutants_table(
        [
            *TRIALS,
            mutant("copies", SLOWER, "bytes at peak: 2 instead of 1"),
            mutant("copies", NOT_SLOWER, "bytes at peak: 2 instead of 1"),
            mutant("loops", SLOWER, beside=SLOWER),
            mutant("loops", CANNOT_TELL),
        ]
    ).set_index("mutant")
    assert list(table["found"]) == ["2 of 2", "1 of 2"]
    assert list(table["by"]) == ["bytes, time", "time"]
    assert list(table["alarms beside"]) == ["0", "1"]
    assert set(table["time, new ÷ old"]) == {"1.50"}


def test_mutants_are_no_trials_of_the_rates() -> None:
    mixed = [*TRIALS, mutant("<b>loops</b>", SLOWER)]
    assert added_to(mixed) == TRIALS
    assert trials_table(mixed, "here") == trials_table(TRIALS, "here")
    section = trials_section(mixed, "here", "f.png")
    assert "&lt;b&gt;loops" in section
    assert "Mistakes" not in trials_section(TRIALS, "here", "f.png")
