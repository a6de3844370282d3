"""The processes of a session from outside: how long they may be silent, which one crashed."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from bench.paired.decision import PairRecord
from bench.paired.processes import Bases, CrashError, PairProcess, RefusedError

# It is at a test, stands before its pair, and answers what it is asked.
STANDS = """
import json, sys
say = lambda **event: print(json.dumps(event), flush=True)
for test in {tests!r}:
    say(event="at", test=test)
    say(event="ready", pair=test + "#1", about_s=1e-3, calls=2)
    while (asked := json.loads(sys.stdin.readline())["do"]) == "slice":
        say(event="slice", seconds=1e-3, cpu_seconds=1e-3)
    {then}
    say(event="served", held=1)
say(event="finished")
"""
ORDER = {"a": 0, "b": 1, "c": 2}


def process(then: str = "", tests: str = "abc") -> PairProcess:
    code = STANDS.format(tests=tests, then=then)
    return PairProcess([sys.executable, "-S", "-c", code], 60)


def pair(test: str) -> PairRecord:
    return PairRecord(f"{test}#1", 1.05, against="main")


def test_a_process_that_waits_may_be_silent_and_one_that_is_asked_may_not() -> None:
    """A revision is built meanwhile, or another process works."""
    with process("import time; time.sleep(60)") as one:
        one.stand_before(pair("a"), ORDER)
        assert one._timer.finished.is_set()  # nothing will kill it
        assert one.time_batch().seconds == 1e-3
        one._timeout_s = 0.2
        with pytest.raises(CrashError, match=r"took longer than 0\.2 s; killed"):
            one.count_bytes()
        assert one.pair is None


@pytest.mark.parametrize(
    ("then", "error"),
    [
        ("sys.exit('no memory')", CrashError),
        ("say(event='refused', pair='a#1', reason='no memory'); break", RefusedError),
    ],
)
def test_a_count_that_fails_is_an_error(then: str, error: type[Exception]) -> None:
    with process(then) as one:
        one.stand_before(pair("a"), ORDER)
        with pytest.raises(error, match="no memory"):
            one.count_bytes()
        one.go_on()  # of one that has ended nothing follows


def test_a_process_that_ends_at_one_test_is_followed_by_one_that_begins_at_the_next() -> None:
    """The crash is not charged to the pair that follows, and not met again."""
    began: list[str] = []

    @contextmanager
    def start(revision: str, test: str) -> Iterator[PairProcess]:
        began.append(test)
        crash = "test == 'a' and sys.exit('crash of a')"
        with process(crash, "abc"["abc".index(test) :]) as one:
            yield one

    with ExitStack() as stack:
        bases = Bases(start, stack)
        first = bases.ready_for(pair("a"), ORDER)
        first.go_on()
        second = bases.ready_for(pair("b"), ORDER)
        assert second.pair == "b#1"
        assert bases.ready_for(pair("c"), ORDER) is second
        bases.finish()
    assert began == ["a", "b"]


def test_a_fresh_process_that_ends_is_not_followed_by_another() -> None:
    began: list[str] = []

    @contextmanager
    def start(revision: str, test: str) -> Iterator[PairProcess]:
        began.append(test)
        with process("sys.exit('crash')") as one:
            yield one

    with ExitStack() as stack, pytest.raises(CrashError, match="crash"):
        Bases(start, stack).ready_for(pair("c"), ORDER)
    assert began == ["c"]
