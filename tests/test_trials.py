"""Trials add up over days: what a kill leaves is cut off, and the added work stays what it was."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import trials
from bench.gate import Progress
from bench.trialled import KINDS, read_trials


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Trials that measure nothing; returns the work that each was given."""
    given: list[Any] = []

    def trial(kind: str, number: int, work: Any, *_: Any) -> dict[str, Any]:
        given.append(work)
        return {"kind": kind, "number": number, "work": work}

    monkeypatch.setattr(trials, "_trial", trial)
    monkeypatch.setattr(trials, "calibrate", lambda blocks: {"calibrated": len(given)})
    return given


def show(progress: Progress) -> None:
    """Show nothing."""


def test_trials_are_added_to_what_is_there(tmp_path: Path, quick: list[Any]) -> None:
    path = trials.run_trials("same", 2, tmp_path, show)
    assert trials.run_trials("slow5", 1, tmp_path, show) == path
    assert [trial["kind"] for trial in read_trials(path)] == ["same", "same", "slow5"]
    assert [trial["number"] for trial in read_trials(path)] == [0, 1, 2]
    assert quick == [{"calibrated": 0}] * 3  # it is the same experiment on every day


def test_a_trial_that_was_killed_is_done_anew(tmp_path: Path, quick: list[Any]) -> None:
    path = trials.run_trials("same", 2, tmp_path, show)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "slow5", "wor')
    trials.run_trials("slow10", 1, tmp_path, show)
    assert path.read_bytes().startswith(whole)
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()][2:] == ["slow10"]


def test_the_suite_is_large_enough_and_every_kind_has_its_share() -> None:
    assert len(trials.SUITE) >= 8
    assert len({entry.name for entry in trials.SUITE}) == len(trials.SUITE)
    assert {share for share in KINDS.values() if share} == {0.05, 0.10, 0.20}
