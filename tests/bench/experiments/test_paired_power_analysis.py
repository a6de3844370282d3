"""What the trials of `paired` say: failures, power and seconds, each with what it is of."""

import math
from pathlib import Path
from typing import Any

import pytest

from bench.cli.stored import others
from bench.common.errors import UserError
from bench.experiments.paired_power import analysis, tools
from bench.report.subject import Subject
from bench.store.files import append_line


def record(outcome: str = "passed", slowed: float = 0.0, ratio: float = 1.0) -> dict[str, Any]:
    return {
        **{"function": "sorting", "size": 50, "slowed": slowed, "outcome": outcome},
        **{"slower_than": 1.05, "processes": 6, "seconds": 4.0},
        "log_ratios": [math.log(ratio)] * 6,
    }


def trial(kind: str = "unchanged", *records: dict[str, Any], **more: Any) -> analysis.Trial:
    usual: dict[str, Any] = {
        **{"kind": kind, "suite": analysis.SUITE, "number": 0, "at": "2026-01-01", "commit": None},
        **{"versions": {}, "exit_status": 0, "wall_s": 12.0 * len(records)},
        **{"pairs": {f"sorting_{index}": one for index, one in enumerate(records)}},
        **{"failed_by": {tools.TANGO: ["sorting_0"]}},
    }
    return analysis.Trial(**usual | more)


SLOWED = {"slowed": 0.1, "ratio": 1.1}
TRIALS = [
    *(trial("unchanged", record()) for _ in range(17)),
    trial("unchanged", record("inconclusive"), wall_s=40.0),
    trial("unchanged", record("differs")),
    trial("unchanged_loaded", record("failed"), wall_s=99.0),
    *(trial("slower-10", *[record("failed", **SLOWED)] * 3, *[record()] * 2) for _ in range(2)),
    trial("slower-10", record("passed", **SLOWED)),
    trial("slower-10", record("inconclusive", **SLOWED)),
]
ROWS = analysis.to_frame(TRIALS)


def test_failures_and_power_are_counted_apart() -> None:
    ours = ROWS[ROWS["rule"] == analysis.PAIRED]
    assert analysis.failures(ours, *analysis.UNCHANGED).startswith("2 of 20 ")  # one differs
    assert analysis.failures(ours, *analysis.LOADED).startswith("1 of 1 ")
    assert analysis.failures(ours, *analysis.SLOWED).startswith("0 of 4 ")
    assert analysis.power(ours, *analysis.SLOWED).startswith("6 of 8 ")
    assert analysis.power(ours, *analysis.UNCHANGED) == "–"
    theirs = ROWS[ROWS["rule"] == tools.TANGO]
    assert analysis.failures(theirs, *analysis.UNCHANGED).startswith("20 of 20 ")
    assert analysis.power(theirs, *analysis.SLOWED).startswith("4 of 8 ")


def test_a_rule_that_never_judged_has_its_reason() -> None:
    table = analysis.rates_table(ROWS, {"pytest-perf": "not installed", tools.TANGO: "once"})
    assert list(table["rule"]) == [analysis.PAIRED, tools.TANGO, "pytest-perf"]
    assert list(table.iloc[-1])[1:] == ["not installed", *["–"] * (len(table.columns) - 2)]


def test_sizes_of_sessions_and_a_load_are_told_apart() -> None:
    table = analysis.sizes_table(ROWS)
    assert list(zip(table["pairs"], table["loaded"], table["sessions"], strict=True)) == [
        *(("1", "no", "21"), ("5", "no", "2"), ("1", "yes", "1"))
    ]
    assert table["s a pair, median"][0] == "12.0"
    assert table["worst"][0] == "40.0"
    assert table["inconclusive, unchanged"][0].startswith("1 of 19 ")
    assert table["inconclusive, slower"][0].startswith("1 of 2 ")
    assert analysis.seconds_of_a_pair(ROWS) == 12.0


def test_the_section_and_the_answer_say_what_was_found() -> None:
    told = analysis.subject({"a<b>": [*TRIALS, trial("unchanged", record(), suite=0)], "empty": []})
    titles = [section.title for section in told.sections({})]
    suite = analysis.SUITE
    assert titles == [f"paired on a<b>, suite {suite}", "paired on a<b>, suite 0"]
    body = told.sections({})[0].body
    assert (
        f"{len(TRIALS)} trials on a&lt;b&gt;, suite {suite}, 2026-01-01, of commits unknown" in body
    )
    assert "10% was meant, 10.0% measured" in body
    (answer,) = told.answers
    assert answer.figure == "2 of 20"
    assert answer.unit.startswith("unchanged pairs of functions failed (")
    assert "6 of 8 (" in answer.more
    assert "12 s" in answer.more
    assert "<" not in answer.said


def test_trials_without_unchanged_pairs_are_told_and_answer_nothing() -> None:
    told = analysis.subject({"a": [TRIALS[-1]]})
    assert len(told.sections({})) == 1
    assert told.answers == []
    nothing = analysis.subject({})
    assert (nothing.sections({}), nothing.answers, nothing.readme) == ([], [], {})


def test_a_report_shows_the_trials_of_its_results_folder(tmp_path: Path) -> None:
    (tmp_path / "paired").mkdir()
    append_line(tmp_path / "paired" / "m.jsonl", TRIALS[0].model_dump_json())
    made = [one for one in others(tmp_path, {}) if isinstance(one, Subject)]
    (section,) = (part for one in made for part in one.sections({}))
    assert section.title.startswith("paired on m, ")


def test_a_foreign_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    append_line(path, TRIALS[0].model_dump_json())
    whole = path.read_text()
    path.write_text(whole + whole[:40])
    assert analysis.read_trials(path) == [TRIALS[0]]
    for text in ("[]\n", whole.replace('"unchanged"', '"a_a"'), whole.replace("passed", "good")):
        path.write_text(text)
        with pytest.raises(UserError, match="one JSON object a line"):
            analysis.read_trials(path)
