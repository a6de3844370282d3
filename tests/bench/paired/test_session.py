"""A session's loop over its processes, which are made up here: time, crashes, and revisions."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.common.errors import UserError
from bench.gate.sequential import MIN_SCREENING
from bench.measure.timing import TimedBatch
from bench.paired import session as module
from bench.paired.call import Pair
from bench.paired.decision import FAILED, INCONCLUSIVE, PASSED
from bench.paired.processes import CrashError, RefusedError
from bench.paired.session import Session

MAX_TIME_S = 300.0
Process = Callable[[Session, Sequence[str], dict[str, float]], str | None]


class Clock:
    """Seconds that pass only when they are added."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "wall_clock", made)
    monkeypatch.setattr(module, "exclusive_machine", lambda say: nullcontext())
    return made


def session() -> Session:
    """A session of a folder, whose options are the usual ones."""
    config: Any = SimpleNamespace(
        getoption=lambda name, default=None: {"paired_max_time": MAX_TIME_S}.get(name, default),
        rootpath=Path("/repository"),
        invocation_params=SimpleNamespace(args=(), dir=Path("/repository")),
        pluginmanager=SimpleNamespace(has_plugin=lambda name: False),
    )
    return Session(config, [])


def measure(made: Session, tests: Sequence[str], process: Process) -> None:
    items: Any = [item(test) for test in tests]
    made._run_process = lambda left, found: process(made, left, found)  # type: ignore[method-assign]
    made.measure(items, print, print)


def item(test: str) -> Any:
    return SimpleNamespace(nodeid=test, path=Path("/a.py"), fixturenames=["paired"])


def meet(made: Session, test: str, against: str | None = None) -> Any:
    limits = {"slower_than": 1.05, "larger_than": None, "against": against}
    return made._meet({"pair": f"{test}#1"} | limits)


def take(made: Session, tests: Sequence[str], found: dict[str, float]) -> None:
    for test in tests:
        meet(made, test).take(1.0, 1.0, (1, 1))
        found[f"{test}#1"] = 0.0


def test_a_pair_that_hangs_fails_and_nothing_follows_it(clock: Clock) -> None:
    """A process in each of ten hanging tests would take an hour."""
    started: list[list[str]] = []

    def hangs(made: Session, left: Sequence[str], found: dict[str, float]) -> str:
        started.append(list(left))
        clock.now += 360
        meet(made, left[0]).miss("took longer than 360 s; killed")
        return left[0]

    made, tests = session(), [f"test_{number}" for number in range(10)]
    measure(made, tests, hangs)
    assert started == [tests]
    assert made.wall_s == 360
    hung = made.pairs["test_0#1"]
    assert hung.outcome == FAILED
    assert hung.words("") == (
        "no process could time it; of the last: took longer than 360 s; killed"
    )
    unmet = made.add_unmet(Pair("test_5#1", dict, dict), item("test_5"))
    assert unmet.outcome == INCONCLUSIVE
    assert unmet.words(made.hint).startswith("no process of it has ended: the time is up: try --p")
    assert made.pairs["test_5#1"] is unmet


def test_tests_after_a_crash_are_measured_while_there_is_time(clock: Clock) -> None:
    def crashes(made: Session, left: Sequence[str], found: dict[str, float]) -> str | None:
        clock.now += 1
        if left[0] == "test_0":
            meet(made, left[0]).miss("its process ended (segmentation fault)")
            return left[0]
        take(made, left, found)
        return None

    made = session()
    measure(made, ["test_0", "test_1"], crashes)
    assert made.pairs["test_0#1"].outcome == FAILED
    assert "could not time it; of the last: its process" in made.pairs["test_0#1"].words("")
    assert made.pairs["test_1#1"].outcome == PASSED
    unmet = made.add_unmet(Pair("test_2#1", dict, dict), item("test_2"))
    assert unmet.outcome == FAILED
    assert "there: it did not come to this call" in unmet.words("")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("no")], ids=["key", "user"])
def test_what_is_open_when_it_is_ended_says_so(clock: Clock, error: BaseException) -> None:
    def ended(made: Session, left: Sequence[str], found: dict[str, float]) -> None:
        clock.now += 1
        if made._number:
            raise error
        take(made, left, found)

    made = session()
    with pytest.raises(type(error)):
        measure(made, ["test_0"], ended)
    assert made.wall_s == 2
    words = made.pairs["test_0#1"].words(made.hint)
    assert words.endswith("is open: the session was ended before it was decided")


def test_the_time_of_a_build_is_not_spent(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def built(*_: Any) -> Any:
        clock.now += 10 * MAX_TIME_S
        return SimpleNamespace()

    def process(made: Session, left: Sequence[str], found: dict[str, float]) -> None:
        clock.now += 1
        made._revision("main")
        take(made, left, found)

    monkeypatch.setattr(module, "export", built)
    made = session()
    measure(made, ["test_0"], process)
    pair = made.pairs["test_0#1"]
    assert (pair.outcome, len(pair.ours_s)) == (PASSED, MIN_SCREENING)
    assert made.wall_s == 10 * MAX_TIME_S + MIN_SCREENING


def hands(hook: Callable[..., object]) -> Any:
    """A configuration with pytest-xdist and a plugin that hands something to its workers."""
    manager = SimpleNamespace(
        has_plugin=lambda name: True,
        get_plugin=lambda name: name,
        subset_hook_caller=lambda name, left_out: hook,
    )
    return SimpleNamespace(pluginmanager=manager, getoption=lambda name, default: default)


def test_what_plugins_hand_to_workers_is_handed_to_processes() -> None:
    usual = {"workerid": "paired", "testrunuid": "paired", "randomly_seed": None}
    assert module._worker_input(session()._config) == usual
    config = hands(lambda node: node.workerinput.update(port=1, id=node.gateway.id))
    assert module._worker_input(config) == usual | {"port": 1, "id": "paired"}


@pytest.mark.parametrize(
    "hook", [lambda node: node.none, lambda node: node.workerinput.update(port=b"1")]
)
def test_a_plugin_that_cannot_hand_on_what_it_must_is_one_line(hook: Callable[..., object]) -> None:
    with pytest.raises(
        UserError, match=r"must hand to a process, .*; one raised .*: leave"
    ) as raised:
        module._worker_input(hands(hook))
    assert "\n" not in str(raised.value)


class Events:
    """A process that says what it is told to; where a pair is ready, its call can be timed."""

    about_s, calls, is_finished, failure, test = 1e-3, 1, False, None, None

    def __init__(self, says: Sequence[dict[str, Any]], bytes_held: object = 1) -> None:
        self.says, self.bytes_held, self.pair = list(says), bytes_held, None

    def read(self) -> dict[str, Any] | None:
        event = self.says.pop(0) if self.says else None
        self.is_finished = event is not None and event["event"] == "finished"
        if event is not None and event["event"] == "ready":
            self.pair = event["pair"]
        return event

    def time_batch(self) -> Any:
        return TimedBatch(1e-3, 1e-3)

    def count_bytes(self) -> Any:
        if isinstance(self.bytes_held, Exception):
            if isinstance(self.bytes_held, CrashError):
                self.pair, self.says = None, []
            raise self.bytes_held
        self.pair = None
        return self.bytes_held

    def go_on(self) -> None:
        self.pair = None

    def end(self) -> Any:
        return SimpleNamespace(reason="its process ended (aborted)")

    def finish(self) -> None:
        pass


def follow(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, ours: object = 1, theirs: object = 1
) -> tuple[Session, list[str]]:
    """Follow one process with two tests against `main`; return what revisions began with."""
    said: list[dict[str, Any]] = []
    for test in ("test_0", "test_1"):
        met = {"event": "met", "pair": f"{test}#1", "slower_than": 2.0, "larger_than": 1.5}
        said += [{"event": "at", "test": test}, met | {"against": "main"}]
        said += [{"event": "ready", "pair": f"{test}#1"}]
    began: list[str] = []
    made = session()

    @contextmanager
    def started(spec: Any, revision: object = None) -> Iterator[Events]:
        if revision is None:
            yield Events([*said, {"event": "finished"}], ours)
            return
        began.append(spec.tests[0])
        base = Events([], theirs)
        base.stand_before = lambda pair, order: setattr(base, "test", pair.place[0])
        yield base

    version = SimpleNamespace(folder=Path("/"))
    revision = SimpleNamespace(place=lambda path: Path("/"), version=version, root="", packages=())
    made._starter = SimpleNamespace(started=started)  # type: ignore[assignment]
    monkeypatch.setattr(module, "export", lambda *_: revision)
    made._max_time_s = 0
    usual = Session._run_process

    def once(one: Session, left: Sequence[str], found: dict[str, float]) -> str | None:
        clock.now += 1
        return usual(one, left, found)

    measure(made, ["test_0", "test_1"], once)
    return made, began


def test_a_count_that_raises_or_crashes_never_passes(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of both processes it is; else `larger_than` would not be looked at."""
    refused, crash = RefusedError("no memory"), CrashError("it ended (aborted)")
    for ours, theirs, said in (
        (refused, 1, "against main: no memory"),
        (1, refused, "against main: no memory"),
        (crash, 1, "of the last: its process ended (aborted)"),
        (1, crash, "of the last: at main, it ended (aborted)"),
        (2_000_000, 1, "larger_than=1.5 is the limit"),
    ):
        made, _ = follow(clock, monkeypatch, ours, theirs)
        assert made.pairs["test_0#1"].outcome == FAILED
        assert said in made.pairs["test_0#1"].words("")
    made, began = follow(clock, monkeypatch)
    assert made.pairs["test_1#1"].outcome == INCONCLUSIVE
    assert made.pairs["test_1#1"].theirs_bytes == 1
    assert began == ["test_0"]


def test_a_crash_at_a_revision_ends_the_process_once_the_time_is_up(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, began = follow(clock, monkeypatch, theirs=CrashError("it ended (aborted)"))
    assert began == ["test_0"]
    assert list(made.pairs) == ["test_0#1"]
    assert made.unreached == {"test_1"}
