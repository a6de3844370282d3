"""Trials of `paired`: their pairs are known, what a session leaves out counts for nothing."""

import json
import math
import os
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paired_standin import entries
from paths import ROOT

from bench.cli.main import main
from bench.common.errors import UserError
from bench.experiments import machine_load
from bench.experiments.paired_power import analysis, experiment, pairs, session, tools
from bench.experiments.paired_power.pairs import Pair, draw, write_pairs

PLAIN = [name for name, one in pairs.FUNCTIONS.items() if "torch" not in one.needs]


def show(text: str) -> None:
    """Show nothing."""


def test_enough_sessions_are_wanted_for_what_is_promised() -> None:
    def counted(*kinds: str) -> int:
        return sum(size * n for one in kinds for size, n in analysis.KINDS[one].sessions.items())

    alone = [name for name in analysis.UNCHANGED if name not in analysis.LOADED]
    assert counted(*alone) >= 200
    slow = [
        pair
        for name in analysis.SLOWED
        for size, n in analysis.KINDS[name].sessions.items()
        for pair in n * draw(0, size, analysis.KINDS[name].slowed)
    ]
    assert sum(pair.slowed == 0.1 for pair in slow) >= 60
    for name in ("unchanged", "slower-10"):
        assert set(analysis.KINDS[name].sessions) == {1, 5, 20}
        assert analysis.KINDS[name].tools == 10
    assert analysis.LOADED == ["unchanged_loaded"]


@pytest.mark.parametrize("count", [1, 5, 20])
def test_pairs_are_drawn_by_the_number_of_their_trial(count: int) -> None:
    assert draw(3, count, 0.1) == draw(3, count, 0.1)
    every = [draw(number, count, 0.1) for number in range(40)]
    assert len({tuple(one) for one in every}) == len(every)
    for drawn in every:
        assert len({pair.name for pair in drawn}) == count
        assert sum(pair.slowed > 0 for pair in drawn) == math.ceil(count / 2)
        assert all(not pair.slowed for pair in draw(0, count, 0.0))
    assert {pair.function for drawn in every for pair in drawn} == set(pairs.FUNCTIONS)
    places = {index for drawn in every for index, pair in enumerate(drawn) if pair.slowed}
    assert places == set(range(count))  # no place is always the slow one


def test_five_pairs_are_five_kinds_of_work() -> None:
    assert {pair.function for pair in draw(1, 5, 0.0)} == set(pairs.FUNCTIONS)


@pytest.mark.parametrize("slowed", [0.0, 0.1])
def test_functions_of_a_pair_are_the_same_work_and_ours_more_rounds_if_slowed(
    slowed: float, tmp_path: Path
) -> None:
    some = [Pair(name, 1, 30, 7, slowed) for name in PLAIN]
    write_pairs(tmp_path, some)
    found = runpy.run_path(str(tmp_path / "functions.py"))
    for pair in some:
        ours, theirs = found[f"ours_{pair.name}"], found[f"theirs_{pair.name}"]
        assert ours is not theirs
        assert ours.__code__.co_code == theirs.__code__.co_code
        each = zip(ours.__code__.co_consts, theirs.__code__.co_consts, strict=True)
        assert [two for two in each if two[0] != two[1]] == ([(11, 10)] if slowed else [])
        values = found[f"make_{pair.name}"]()
        np.testing.assert_array_equal(ours(*values), theirs(*values))
        again = found[f"make_{pair.name}"]()
        np.testing.assert_array_equal(values[0], again[0])


def test_each_pair_has_a_test_of_its_own(tmp_path: Path) -> None:
    drawn = draw(2, 20, 0.1)
    write_pairs(tmp_path, drawn)
    text = (tmp_path / "test_pairs.py").read_text()
    for pair in drawn:
        assert text.count(f"def test_{pair.name}(paired):") == 1
        handed = f"paired(of.ours_{pair.name}, of.theirs_{pair.name}, inputs=of.make_{pair.name})"
        assert text.count(handed) == 1


def told(folder: Path, *some: list[dict[str, Any]]) -> Path:
    path = folder / "paired.json"
    path.write_text(json.dumps({"benchmarks": [entry for one in some for entry in one]}))
    return path


def test_what_a_session_says_is_kept_with_what_is_known_of_the_pair(tmp_path: Path) -> None:
    drawn = [Pair("sorting", 0, 44, 1, 0.1), Pair("text", 1, 55, 2, 0.0)]
    path = told(
        tmp_path,
        entries("test_pairs.py::test_text_1#1", outcome="inconclusive", low=None, high=math.inf),
        entries("test_pairs.py::test_sorting_0#1", outcome="failed", ratio=1.1),
    )
    found = session.read_session(path, drawn)
    slow, still = found["sorting_0"], found["text_1"]
    assert (slow.outcome, slow.slowed, slow.size, slow.ratio) == ("failed", 0.1, 44, 1.1)
    assert (slow.ours_s, slow.theirs_s) == (5e-5, 4e-5)
    assert (still.outcome, still.slowed, still.function) == ("inconclusive", 0.0, "text")
    assert slow.log_ratios == [0.00123] * 6
    stored = still.model_dump_json()
    assert analysis.PairRecord.model_validate_json(stored).high is None


def test_a_pair_that_could_not_be_timed_is_told_too(tmp_path: Path) -> None:
    """One whose results differ has no time, and has failed all the same."""
    said = entries("test_pairs.py::test_text_1#1", outcome="differs", ratio=None, processes=0)
    path = tmp_path / "paired.json"
    path.write_text(json.dumps({"benchmarks": [], "untimed": [said[0]["extra_info"]]}))
    (found,) = session.read_session(path, [Pair("text", 1, 55, 2, 0.0)]).values()
    assert (found.outcome, found.ours_s, found.theirs_s) == ("differs", None, None)


@pytest.mark.parametrize(
    "some",
    [
        [],  # says nothing
        [entries("test_pairs.py::test_text_1#1")] * 2,  # twice of the same
        [entries("test_pairs.py::test_text_1#1"), entries("test_pairs.py::test_other_0#1")],
        [entries("test_pairs.py::test_text_1#1")[:1]],  # ours without theirs
        [entries("test_pairs.py::test_text_1#1", outcome="perhaps")],
        [entries("test_pairs.py::test_text_1#1", processes=None)],
        [[{"group": "a"}]],
    ],
)
def test_a_session_that_does_not_tell_of_each_pair_makes_no_trial(
    some: list[list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_command(command: Any, folder: Path, *_: Any) -> subprocess.CompletedProcess[str]:
        told(folder, *some)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(session, "run_command", run_command)
    with pytest.raises(UserError, match="no trial was stored") as error:
        session.run_session(tmp_path, [Pair("text", 1, 50, 1, 0.0)])
    assert "\n" not in str(error.value)


def test_a_command_that_fails_is_one_line(tmp_path: Path) -> None:
    script = "import sys; print('first', 'last', sep=chr(10), file=sys.stderr); sys.exit(3)"
    with pytest.raises(session.CommandError, match=r"exit status 3: last$"):
        session.run_command([sys.executable, "-c", script], tmp_path)
    with pytest.raises(session.CommandError, match="exit status 3"):
        session.run_command([sys.executable, "-c", script], tmp_path, (0, 1))
    assert session.run_command([sys.executable, "-c", script], tmp_path, (3,)).returncode == 3


def test_a_command_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LONGEST_S", 0.2)
    with pytest.raises(session.CommandError, match=r"took longer than 0\.2 s"):
        session.run_command([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path)


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sessions have a plugin of the tests' in the place of `paired`."""
    monkeypatch.setattr(session, "PLUGIN", "paired_standin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "helpers"))
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")  # of the user's, which is no trial's
    monkeypatch.delenv("STANDIN_OUTCOME", raising=False)


@pytest.mark.usefixtures("standin")
@pytest.mark.parametrize(("outcome", "status"), [("passed", 0), ("failed", 1)])
def test_a_session_is_pytest_on_the_tests_as_they_are_written(
    outcome: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_OUTCOME", outcome)
    some = [Pair(name, 1, 30, 7, 0.1) for name in PLAIN]
    write_pairs(tmp_path, some)
    exit_status, found = session.run_session(tmp_path, some)
    assert exit_status == status
    assert {name: one.outcome for name, one in found.items()} == dict.fromkeys(
        [pair.name for pair in some], outcome
    )


def test_a_session_takes_no_lock_of_the_trials_that_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {}

    def run_command(command: Any, folder: Path, accepted: Any, env: dict[str, str]) -> Any:
        given.update(env)
        raise session.CommandError("far enough")

    monkeypatch.setattr(session, "run_command", run_command)
    with pytest.raises(UserError, match="far enough"):
        session.run_session(tmp_path, [])
    assert Path(given["MLR_BENCH_LOCK"]).parent == tmp_path
    assert str(ROOT) in given["PYTHONPATH"].split(os.pathsep)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("bench.plugin") is None, reason="this checkout has no `paired` yet")
def test_a_whole_trial_is_a_session_of_paired_itself() -> None:
    found = experiment.run_trial("slower-10", 1, [], show)
    (pair,) = found.pairs.values()
    assert pair.processes >= 6
    assert len(pair.log_ratios) > 0
    assert found.exit_status == (pair.outcome == "failed")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Trials of which no process is started; what they asked for, in order."""
    asked: list[tuple[str, Any]] = []

    def run_session(folder: Path, some: list[Pair]) -> tuple[int, dict[str, analysis.PairRecord]]:
        asked.append(("session", some))
        known = [{"function": one.function, "size": one.size, "slowed": one.slowed} for one in some]
        each = zip(some, known, strict=True)
        said = {"outcome": "passed", "slower_than": 1.05, "processes": 6, "seconds": 4.0}
        return 0, {pair.name: analysis.PairRecord(**said | own) for pair, own in each}

    def judge(folder: Path, pair: Pair, wanted: dict[str, bool]) -> tuple[Any, Any]:
        asked.append(("tools", wanted))
        return {rule: [] for rule, one in wanted.items() if one}, {}

    monkeypatch.setattr(experiment, "run_session", run_session)
    monkeypatch.setattr(experiment, "judge_by_tango", lambda folder: [])
    monkeypatch.setattr(experiment, "judge_by_tools", judge)
    return asked


def test_trials_are_added_to_what_is_there_until_there_are_as_many_as_wanted(
    tmp_path: Path, quick: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"unchanged": analysis.Kind({1: 2, 5: 1}), "slower-10": analysis.Kind({1: 4}, 0.1)}
    monkeypatch.setattr(experiment, "KINDS", wanted)
    monkeypatch.setattr(analysis, "KINDS", wanted)
    path = experiment.run_trials(["unchanged"], 1, math.inf, tmp_path, show)
    with path.open("a") as file:
        file.write('{"kind": "slow')  # of a trial that was killed
    assert experiment.run_trials(wanted, math.inf, math.inf, tmp_path, show) == path
    done = analysis.read_trials(path)
    assert [one.number for one in done] == [*range(7)]
    units = sorted((one.kind, len(one.pairs)) for one in done)
    assert units == [*[("slower-10", 1)] * 4, *[("unchanged", 1)] * 2, ("unchanged", 5)]
    assert [some for what, some in quick if what == "session"] == [
        draw(one.number, len(one.pairs), wanted[one.kind].slowed) for one in done
    ]
    assert experiment.run_trials(wanted, 9, math.inf, tmp_path, show) == path
    assert len(analysis.read_trials(path)) == 7
    assert not analysis.missing(done)


@pytest.mark.usefixtures("quick")
def test_no_trial_is_begun_after_the_time_is_up_or_beyond_the_count(tmp_path: Path) -> None:
    for count, max_time_s in ((9, 0.0), (0, math.inf)):
        path = experiment.run_trials(["unchanged"], count, max_time_s, tmp_path, show)
        assert not path.exists()


def test_other_tools_judge_sessions_of_one_pair_until_they_judged_as_many_as_wanted(
    quick: list[tuple[str, Any]],
) -> None:
    rules = [tool.rules[0] for tool in tools.TOOLS]
    first = experiment.run_trial("unchanged", 1, [], show)
    done = first.model_copy(update={"failed_by": {rules[0]: []}})
    for earlier, size, kind in (
        *([[done] * 9, 1, "unchanged"], [[done] * 10, 1, "unchanged"]),
        *([[], 5, "unchanged"], [[], 1, "unchanged_loaded"], [[done] * 20, 1, "slower-10"]),
        [[done.model_copy(update={"suite": 0})] * 20, 1, "unchanged"],
    ):
        experiment.run_trial(kind, size, earlier, show)
    wanted = [list(one.values()) for what, one in quick if what == "tools"]
    every, none, rest = [True] * len(rules), [False] * len(rules), [True] * (len(rules) - 1)
    assert wanted == [every, every, [False, *rest], none, none, every, every]


@pytest.mark.parametrize("kind", [*analysis.KINDS])
def test_only_what_is_to_be_loaded_is(
    kind: str, quick: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Load:
        def __init__(self, command: list[str], *_: Any, **more: Any) -> None:
            started.append(command[-2])

        def __enter__(self) -> "Load":
            quick.append(("load begins", None))
            return self

        def __exit__(self, *_: object) -> None:
            quick.append(("load ends", None))

        def wait(self, seconds: float) -> bool:
            return False

    monkeypatch.setattr(machine_load, "WorkerProcess", Load)
    experiment.run_trial(kind, 1, [], show)
    loaded = kind in analysis.LOADED
    assert started == [machine_load.LOAD] * loaded
    inside = ["session", "tools"]
    assert [what for what, _ in quick] == (
        ["load begins", *inside, "load ends"] if loaded else inside
    )


@pytest.mark.usefixtures("quick")
def test_a_trial_says_of_what_it_is() -> None:
    earlier = [experiment.run_trial("unchanged", 1, [], show)] * 3
    found = experiment.run_trial("slower-10", 5, earlier, show)
    assert found.number == 3
    assert {"python", "torch", "pytest"} <= set(found.versions)
    assert sum(pair.slowed == 0.1 for pair in found.pairs.values()) == 3
    assert found.failed_by == {tools.TANGO: []}
    assert analysis.Trial.model_validate_json(found.model_dump_json()) == found


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_run(
    tmp_path: Path, quick: list[tuple[str, Any]]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="must be writable"):
        experiment.run_trials(["unchanged"], 1, math.inf, tmp_path / "file" / "in", show)
    assert quick == []


@pytest.mark.usefixtures("quick")
def test_the_command_adds_trials_and_tells_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--kind", "slower-10", "--count", "2", "--max-time", "1h", "--out", str(tmp_path)]
    assert main(["experiment", "paired-power", *options]) == 0
    said = capsys.readouterr().out
    (path,) = (tmp_path / "paired").iterdir()
    assert {one.kind for one in analysis.read_trials(path)} == {"slower-10"}
    assert "still wanted: 40 of unchanged with 1 pair\n" in said
    assert str(path) in said
    with pytest.raises(SystemExit, match="2"):
        main(["experiment", "paired-power", "--kind", "a_a"])
