"""What other tools say of pairs: each rule by itself, and nothing of what could not be run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.experiments.paired_power import tango, tools
from bench.experiments.paired_power.pairs import Pair, write_pairs


def test_tango_fails_what_is_slower_beyond_the_noise_and_by_more_than_chance() -> None:
    chance = np.random.default_rng(0)

    def samples(ratio: float, noise: float = 0.01, count: int = 50) -> list[tuple[float, float]]:
        theirs, ours = 5e-5 * (1 + noise * chance.standard_normal((2, count)))
        return [*zip(theirs.tolist(), (ratio * ours).tolist(), strict=True)]

    assert tango.fails(samples(1.1))
    assert not tango.fails(samples(1.005, noise=0.0001))  # certain, and within the noise
    assert not tango.fails(samples(1.03, noise=0.3))  # beyond the noise, and by chance
    assert not tango.fails(samples(0.8))
    assert sum(tango.fails(samples(1.0)) for _ in range(100)) < 5
    assert tango.fails([(1.0, 1.5), (1.0, 1.5)])  # without any spread


@pytest.mark.slow
def test_tango_judges_each_pair_of_a_file_in_one_process(tmp_path: Path) -> None:
    """Fifty times the work is found on any machine."""
    write_pairs(tmp_path, [Pair("sorting", 0, 50, 1, 49.0), Pair("loop", 1, 50, 1, 0.0)])
    assert "sorting_0" in tools.judge_by_tango(tmp_path)


def test_samples_are_taken_in_turns_and_each_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    clock = iter(np.arange(0.0, 100.0, 0.2))
    monkeypatch.setattr(tango, "warm_up", lambda call, device: 0.004)
    monkeypatch.setattr(tango, "wall_clock", lambda: next(clock))
    found = tango.sample(lambda: made.append("theirs"), lambda: made.append("ours"))
    assert len(found) >= 2
    assert made.count("theirs") == made.count("ours") == 2 * len(found)  # 4 ms in slices of 10 ms
    assert set(made[::4]) == {"theirs", "ours"}


PAIR = Pair("sorting", 0, 50, 1, 0.1)
EVERY = {tool.rules[0]: True for tool in tools.TOOLS}


@pytest.mark.parametrize(("regression", "status"), [("regressed", 1), ("inconclusive", 1), ("", 0)])
def test_the_decision_of_benchmatrix_and_its_exit_status_are_two_rules(
    regression: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run_command(command: Any, folder: Path, *_: Any) -> subprocess.CompletedProcess[str]:
        words = [*map(str, command)]
        ran.append(words[3:5])
        cells = [{"regression": "unchanged"}, {"regression": regression}]
        if "compare" in words:
            return subprocess.CompletedProcess(
                words, status, json.dumps({"comparisons": cells}), ""
            )
        assert (folder / "ours" / "test_matrix.py").exists() or "theirs-runs" in words
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(tools, "run_command", run_command)
    monkeypatch.setattr(tools, "installed", {"benchmatrix": "1.2.1"}.get)
    write_pairs(tmp_path, [PAIR])
    failed_by, absent = tools.judge_by_tools(tmp_path, PAIR, EVERY)
    assert [words[0] for words in ran] == ["measure", "measure", "compare",
                                           "collect-paired", "compare"]  # fmt: skip
    for name in ("benchmatrix measure", "benchmatrix collect-paired"):
        assert failed_by[name] == [PAIR.name] * (regression == "regressed")
        assert failed_by[f"{name}, {tools.STRICT}"] == [PAIR.name] * status
    assert absent == {"pytest-perf": "not installed"}


def test_pytest_perf_has_theirs_as_committed_and_ours_as_it_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "exercises.py:pair_perf: 55.2 usec (+0.3 usec, 1%)"
    run = tools.run_command

    def run_command(command: Any, folder: Path, *more: Any) -> Any:
        if command[0] == "git":
            return run(command, folder, *more)
        committed = run(["git", "show", "HEAD:version.py"], folder).stdout
        assert f"theirs_{PAIR.name} as work" in committed
        assert f"ours_{PAIR.name} as work" in (folder / "version.py").read_text()
        assert run(["git", "remote", "get-url", "origin"], folder).stdout.startswith("file:///")
        return subprocess.CompletedProcess(command, 0 if said else 1, said, "")

    monkeypatch.setattr(tools, "run_command", run_command)
    monkeypatch.setattr(tools, "installed", {"pytest-perf": "1.0.0"}.get)
    write_pairs(tmp_path, [PAIR])
    failed_by, absent = tools.judge_by_tools(tmp_path, PAIR, EVERY)
    assert failed_by == {"pytest-perf": []}
    assert set(absent.values()) == {"not installed"}
    said = ""  # it ended with 1, and not by a slow-down
    (tmp_path / "again").mkdir()
    write_pairs(tmp_path / "again", [PAIR])
    failed_by, absent = tools.judge_by_tools(tmp_path / "again", PAIR, EVERY)
    assert failed_by == {}
    assert absent["pytest-perf"].startswith("could not be run: no time was told")


def test_a_tool_that_fails_to_run_has_judged_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "installed", lambda name: "1")
    monkeypatch.setattr(tools, "PYTHON", (sys.executable, "-m", "no_such_module"))
    write_pairs(tmp_path, [PAIR])
    failed_by, absent = tools.judge_by_tools(tmp_path, PAIR, EVERY)
    assert failed_by == {}
    assert set(absent) == {rule for tool in tools.TOOLS for rule in tool.rules}
    assert all(why.startswith("could not be run: ") and "\n" not in why for why in absent.values())
    assert tools.judge_by_tools(tmp_path, PAIR, dict.fromkeys(EVERY, False)) == ({}, {})


def test_what_is_not_installed_has_no_version() -> None:
    assert tools.installed("no-such-distribution") is None
    assert tools.installed("pytest") == pytest.__version__
