"""The decisions on pairs, held against simulated machines whose truth is known."""

import math

import numpy as np
import pytest

from bench.gate.sequential import LOOKS, MAX_SCREENING, MIN_SCREENING, SequentialTest
from bench.paired.decision import (
    DIFFERS,
    FAILED,
    INCONCLUSIVE,
    PASSED,
    SLACK_BYTES,
    PairRecord,
)

LIMIT = 1.05


def session(
    truth: list[float], sd: float, random: np.random.Generator, limit: float = LIMIT
) -> list[PairRecord]:
    """Take the pairs of a session through its processes on a machine with this much noise."""
    pairs = {f"test#{number}": PairRecord(f"test#{number}", limit) for number in range(len(truth))}
    ratios = dict(zip(pairs, truth, strict=True))
    test = SequentialTest({})
    test.cases.update({name: pair.state for name, pair in pairs.items()})
    while wanted := test.open_cases():
        test.add({name: math.log(ratios[name]) + sd * random.normal() for name in wanted})
    return list(pairs.values())


def outcomes(
    count: int, truth: list[float], sd: float, seed: int, limit: float = LIMIT
) -> list[list[PairRecord]]:
    random = np.random.default_rng(seed)
    return [session(truth, sd, random, limit) for _ in range(count)]


def with_a(outcome: str, sessions: list[list[PairRecord]]) -> int:
    return sum(any(pair.outcome == outcome for pair in pairs) for pairs in sessions)


def processes(pair: PairRecord) -> int:
    return len(pair.state.screened) + len(pair.state.confirmed)


@pytest.mark.parametrize("sd", [0.01, 0.02, 0.03])
@pytest.mark.parametrize("size", [1, 5, 20])
def test_what_is_unchanged_never_fails_and_passes_soon(size: int, sd: float) -> None:
    sessions = outcomes(120 // size, [1.0] * size, sd, seed=size)
    pairs = [pair for one in sessions for pair in one]
    assert not with_a(FAILED, sessions)
    assert sum(pair.outcome == PASSED for pair in pairs) >= 0.95 * len(pairs)
    assert np.median([processes(pair) for pair in pairs]) <= (6 if sd < 0.03 else 9)


@pytest.mark.parametrize("sd", [0.01, 0.02, 0.03])
@pytest.mark.parametrize("size", [1, 5, 20])
def test_one_that_is_slower_by_a_tenth_is_found_among_others(size: int, sd: float) -> None:
    sessions = outcomes(40, [1.1] + [1.0] * (size - 1), sd, seed=size)
    found = sum(one[0].outcome == FAILED for one in sessions)
    assert found >= 0.95 * len(sessions)
    assert not any(pair.outcome == FAILED for one in sessions for pair in one[1:])


@pytest.mark.parametrize("size", [1, 5, 20])
def test_sessions_on_the_limit_fail_in_one_of_a_hundred_and_pass_in_five(size: int) -> None:
    """The worst case of both errors: a pair that takes exactly what it may not."""
    count = 100 // size
    sessions = outcomes(count, [LIMIT] * size, 0.02, seed=30 + size)
    assert with_a(FAILED, sessions) <= 1 + 0.05 * count  # 1 % expected
    passed = sum(pair.outcome == PASSED for one in sessions for pair in one)
    assert passed <= 0.05 * count * size + 3 * math.sqrt(0.05 * count * size)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 5, 20])
def test_so_do_many_sessions(size: int) -> None:
    count = 4_000 // size
    sessions = outcomes(count, [LIMIT] * size, 0.02, seed=60 + size)
    assert with_a(FAILED, sessions) <= 0.01 * count + 3 * math.sqrt(0.01 * count)
    passed = sum(pair.outcome == PASSED for one in sessions for pair in one)
    assert passed <= 0.05 * 4_000 + 3 * math.sqrt(0.05 * 4_000)


@pytest.mark.parametrize(
    ("limit", "ratio", "outcome"),
    [(0.5, 0.4, PASSED), (0.5, 0.6, FAILED), (0.5, 1.0, FAILED), (1.0, 0.9, PASSED),
     (1.0, 1.1, FAILED), (3.0, 1.0, PASSED), (3.0, 3.5, FAILED), (1.05, 0.2, PASSED)],
)  # fmt: skip
def test_a_limit_may_be_anywhere(limit: float, ratio: float, outcome: str) -> None:
    sessions = outcomes(20, [ratio], 0.02, seed=8, limit=limit)
    assert [one[0].outcome for one in sessions] == [outcome] * 20


def test_what_is_alike_is_not_shown_to_be_faster() -> None:
    """With a limit of 1 an unchanged pair lies on it: it rarely passes, and more rarely fails."""
    sessions = outcomes(60, [1.0], 0.02, seed=9, limit=1.0)
    assert with_a(INCONCLUSIVE, sessions) >= 52
    assert with_a(FAILED, sessions) <= 2


def test_one_that_is_slow_in_two_of_five_processes_does_not_pass() -> None:
    """The typical process is not slower: the bound of the share of the slow ones is."""
    random, passed = np.random.default_rng(4), 0
    for _ in range(60):
        pair = PairRecord("test#1", LIMIT)
        test = SequentialTest({})
        test.cases["test#1"] = pair.state
        while test.open_cases():
            slow = 0.1 if random.random() < 0.4 else 0.0
            test.add({"test#1": slow + 0.01 * random.normal()})
        passed += pair.outcome == PASSED
    assert passed <= 12  # of 6 expected


def test_the_numbers_of_processes_are_those_of_the_gate() -> None:
    (quick,), (late,) = (outcomes(1, [ratio], 1e-6, seed=1)[0] for ratio in (1.0, LIMIT))
    assert processes(quick) == MIN_SCREENING
    assert processes(late) - LOOKS[-1][0] in (MIN_SCREENING, MAX_SCREENING)
    (slow,) = outcomes(1, [1.1], 1e-6, seed=1)[0]
    assert processes(slow) == MIN_SCREENING + LOOKS[0][0]


def test_memory_fails_a_pair_beyond_its_limit_and_some_objects() -> None:
    for ours, fails in ((3 * 10_000 + SLACK_BYTES, False), (3 * 10_000 + SLACK_BYTES + 1, True)):
        pair = PairRecord("test#1", LIMIT, larger_than=3.0)
        pair.take(1.0, 1.0, (ours, 10_000))
        assert (pair.outcome == FAILED) == fails
        assert (pair.reason is not None) == fails
    pair.take(1.0, 1.0, None)
    assert pair.ours_bytes == 3 * 10_000 + SLACK_BYTES + 1


def test_what_cannot_be_timed_twice_has_failed_and_what_differs_differs() -> None:
    pair = PairRecord("test_a.py::test#1", LIMIT)
    assert pair.outcome == INCONCLUSIVE
    assert pair.words("more") == "no process of it has ended: more"
    pair.miss("it was killed")
    assert pair.outcome == INCONCLUSIVE
    pair.miss("it was killed again")
    assert pair.outcome == FAILED
    assert "it was killed again" in pair.words("")
    pair.reason, pair.differs = "not equal", True
    assert pair.outcome == DIFFERS
    assert pair.place == ("test_a.py::test", 1)


def test_what_no_process_could_time_has_failed_once_none_follows() -> None:
    """A function that hangs once, for all of the time, is not fast; the reason is kept."""
    hangs, tired, late = (PairRecord(f"test_a.py::test#{number}", LIMIT) for number in (1, 2, 3))
    hangs.miss("took longer than 360 s; killed")
    tired.take(1.0, 1.0, None)
    tired.miss("it was killed")
    for pair in (hangs, tired, late):
        pair.end()
    assert hangs.outcome == FAILED
    assert hangs.words("more") == (
        "no process could time it; of the last: took longer than 360 s; killed"
    )
    assert [tired.outcome, late.outcome] == [INCONCLUSIVE, INCONCLUSIVE]
