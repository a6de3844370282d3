"""What the trials of the gate say, and what the rules of other tools say of known rounds."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.common.errors import UserError
from bench.experiments.gate_power import analysis as gate
from bench.experiments.gate_power.experiment import BASELINE_DETECTORS, judge
from bench.gate.sequential import INCONCLUSIVE, NO_REGRESSION, REGRESSION
from bench.store.files import append_line

RULE = "pytest-benchmark min:5%"


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
        **{"kind": kind, "at": "2026-01-01", "commit": None, "control": None, "blocks": 6},
        **{"exit_status": 1 if slower else 0, "wall_s": 30.0, "changed": changed},
        **{"cases": cases, "baselines": {"min:5%": ["a"]}},
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


def test_alarms_and_power_are_counted_apart() -> None:
    still, slowed = TRIALS[:20], TRIALS[20:]
    assert gate.false_alarms(of(gate.GATE, still), *gate.KINDS)[:2] == (1, 20)
    assert gate.false_alarms(of(RULE, still), *gate.KINDS)[:2] == (20, 20)
    assert gate.false_alarms(of(gate.GATE, slowed), *gate.KINDS)[:2] == (
        1,
        5,
    )  # the case beside the slowed one
    assert gate.power(of(gate.GATE, slowed), *gate.KINDS)[:2] == (3, 5)
    assert gate.false_alarms(of(RULE, slowed), *gate.KINDS)[:2] == (0, 5)
    too_noisy = trial("a_a", "a", exit_status=4)
    assert gate.false_alarms(of(gate.GATE, [too_noisy]), *gate.KINDS).hits == 0


def test_a_rate_has_its_exact_interval() -> None:
    assert gate.rate([]).of == 0
    none = gate.rate([False] * 60)
    assert none.low == 0
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 60))
    assert str(none).startswith("0 of 60 (0.0%–6.0%)")


def test_the_section_and_the_figure_show_every_rule() -> None:
    table = gate.rates_table(ROWS)
    assert list(table["rule"]) == [gate.GATE, RULE]
    assert table.loc[0, "found, slowdown-5"] == str(
        gate.power(of(gate.GATE, TRIALS[20:]), *gate.KINDS)
    )
    said = gate.trials_section(ROWS, "figures/a.png")
    assert "5% was meant, 6.0% measured" in said
    assert "the gate was inconclusive" in said
    assert f"{len(TRIALS)} trials on a&lt;b&gt;" in gate.trials_table(ROWS, "a<b>")
    labels = gate.trials_figure(ROWS, "a").axes[0].get_legend_handles_labels()[1]
    assert labels == [gate.GATE, RULE]


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
    old = {"rounds": list(1e-5 * (1 + 0.01 * random.random(30)))}
    for share in (1.12, 1.2):
        new = {"rounds": list(share * 1e-5 * (1 + 0.01 * random.random(30)))}
        found = judge({"a": old, "b": old}, {"a": new, "b": old})
        assert set(found) == set(BASELINE_DETECTORS)
        assert all(cases == ["a"] for cases in found.values()), found


def test_where_all_is_slowed_each_case_counts_and_none_stands_beside() -> None:
    some = [trial("slowdown-all-10", "a", "b"), trial("slowdown-all-10", "b")]
    assert gate.power(of(gate.GATE, some), *gate.KINDS)[:2] == (3, 4)
    assert gate.false_alarms(of(gate.GATE, some), *gate.KINDS)[:2] == (0, 2)
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
    assert "&lt;b&gt;loops" in gate.trials_section(mixed, "f.png")
    assert "Mistakes" not in gate.trials_section(ROWS, "f.png")
