"""The processes of a session, seen from their parent: started, read, asked for slices."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from ..common.errors import UserError
from ..common.paths import PACKAGE
from ..machine.environment import pinned_environment
from ..measure.timing import TimedBatch
from ..run.process import Event, Exit, WorkerProcess
from .decision import PairRecord
from .revisions import Revision
from .worker import Spec

# The suite is found as the parent has found it; what is tested may lie in another place.
START = (
    "import sys; sys.path[:] = {own!r}; from {package}.paired.worker import main; "
    "sys.path[:] = {paths!r}; main()"
)
# Of a parent whose coverage is measured: to measure that here would take most of the time.
NOT_INHERITED = ("COV_CORE_", "COVERAGE_PROCESS")


class RefusedError(Exception):
    """A process cannot time a pair; the text says why."""


class CrashError(Exception):
    """A process ended while it was at a pair; the text says how."""


class PairProcess(WorkerProcess):
    """A process that runs tests and, before a pair against a revision, waits to be asked."""

    test: str | None = None  # that it is at
    pair: str | None = None  # that it stands before
    about_s, calls = 0.0, 0  # of its call, see `measure.ratio.TimedTarget`
    is_finished = False
    failure: str | None = None  # of the collection of its tests

    def read(self) -> Event | None:
        """Return the next event; None after its end. It may be silent while nobody reads."""
        self.extend()
        event = super().read()
        self._timer.cancel()
        if event is None:
            return None
        match event["event"]:
            case "at":
                self.test = event["test"]
            case "ready":
                self.pair, self.about_s = event["pair"], event["about_s"]
                self.calls = event["calls"]
            case "served" | "refused":
                self.pair = None
            case "finished":
                self.is_finished = True
            case "ended" if event["test"] is None:
                self.failure = self.failure or event["reason"]
        return event

    def end(self) -> Exit:
        """Wait for its end, as long as it may be silent, and say how it ended."""
        self.extend()
        return super().end()

    def time_batch(self) -> TimedBatch:
        """Have one slice timed there.

        Raises:
            RefusedError: The call raised.
            CrashError: The process ended.
        """
        event = self._do("slice")
        return TimedBatch(event["seconds"], event["cpu_seconds"])

    def count_bytes(self) -> int | None:
        """Have it count the bytes of its call, if they are not known, and leave the pair.

        Raises:
            RefusedError: The call raised.
            CrashError: The process ended.
        """
        held: int | None = self._do("count")["held"]
        return held

    def _do(self, what: str) -> Event:
        event = self.ask({"do": what})
        if event is None:
            self.pair = None
            raise CrashError(self.end().reason)
        if event["event"] == "refused":
            raise RefusedError(event["reason"])
        return event

    def go_on(self) -> None:
        """Have it leave the pair that it stands before; that it has ended is seen later."""
        self.ask({"do": "go on"})

    def stand_before(self, wanted: PairRecord, order: Mapping[str, int]) -> None:
        """Wait until it is ready for a pair; those before it are left out.

        Raises:
            RefusedError: It has no such pair, or cannot time it.
            CrashError: It ended while it was at its test.
        """
        test, number = wanted.place
        while self.pair != wanted.id:
            if self.pair is not None:
                other, at = self.pair.rpartition("#")[::2]
                if (order[other], int(at)) > (order[test], number):
                    break
                self.go_on()
            event = None if self.is_finished else self.read()
            if event is None and not self.is_finished:
                raise CrashError(self.end().reason)
            if self.is_finished:
                break
            assert event is not None
            name = event["event"]
            if (name == "refused" and event["pair"] == wanted.id) or (
                name == "ended" and event["test"] == test
            ):
                raise RefusedError(event["reason"])
        if self.pair != wanted.id:
            raise RefusedError(self.failure or "there is no such test, or no such pair in it")

    def finish(self) -> None:
        """Let it do what is left, without a slice, and end."""
        while not self.is_finished:
            if self.pair is not None:
                self.go_on()
            if self.read() is None:
                break
        self.end()


class Starter:
    """What all processes of a session have in common.

    Attributes:
        arguments: Of pytest's command line.
        folder: Where the processes run.
        paths: Where they look for modules, as their parent did when it began.
        timeout_s: How long they may be silent.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, paths: Sequence[str], timeout_s: float
    ) -> None:
        self.arguments, self.folder = list(arguments), folder
        self.paths, self.timeout_s = list(paths), timeout_s

    @contextmanager
    def started(self, spec: Spec, revision: Revision | None = None) -> Iterator[PairProcess]:
        """Give a process that runs the tests of the working tree, or of a revision.

        Raises:
            UserError: It cannot be started.
        """
        env = {name: one for name, one in os.environ.items() if not name.startswith(NOT_INHERITED)}
        folder, paths, own = self.folder, self.paths, replace(spec, arguments=self.arguments)
        if revision is not None:
            folder, paths = revision.place(folder), revision.search_paths(paths)
            folder.mkdir(parents=True, exist_ok=True)  # one that git does not know
            known = env.get("PYTHONPATH", "").split(os.pathsep)
            env["PYTHONPATH"] = os.pathsep.join(revision.search_paths(filter(None, known)))
            own = replace(own, arguments=[revision.text(one) for one in self.arguments])
        start = START.format(own=self.paths, package=PACKAGE, paths=paths)
        with PairProcess(
            [sys.executable, "-c", start],
            self.timeout_s,
            env=pinned_environment(env),
            cwd=folder,
        ) as process:
            if process.ask(asdict(own)) is None:
                why = process.end().reason
                raise UserError(f"a measuring process must start; {why}: try `pytest` alone")
            yield process


class Bases:
    """The processes of other revisions beside one of the working tree, started when needed.

    `start` takes a revision and the test that its process begins with.
    """

    def __init__(
        self, start: Callable[[str, str], AbstractContextManager[PairProcess]], stack: ExitStack
    ) -> None:
        self._start, self._stack = start, stack
        self.running: dict[str, PairProcess] = {}  # by the revision

    def ready_for(self, pair: PairRecord, order: Mapping[str, int]) -> PairProcess:
        """Return the process of a pair's revision, ready for the pair.

        If one ends at another test than the pair's, a fresh one takes its place.

        Raises:
            RefusedError: As `PairProcess.stand_before`.
            CrashError: It ended while it was at the pair's test.
            UserError: It cannot be started.
        """
        assert pair.against is not None
        revision, test = pair.against, pair.place[0]
        if (process := self.running.get(revision)) is not None:
            try:
                process.stand_before(pair, order)
                return process
            except CrashError:
                if process.test == test:
                    raise
        process = self._stack.enter_context(self._start(revision, test))
        self.running[revision] = process
        process.stand_before(pair, order)
        return process

    def finish(self) -> None:
        """Let them end."""
        for process in self.running.values():
            process.finish()
