"""All pairs of a session of pytest: processes until each is decided."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest

from ..common.errors import UserError, in_one_line
from ..common.units import counted
from ..gate.sequential import SequentialTest, minutes_to_try
from ..machine.lock import exclusive_machine
from ..measure.ratio import interleave
from ..measure.timing import wall_clock
from ..run.process import Event
from .call import Pair
from .decision import PairRecord
from .processes import Bases, CrashError, PairProcess, RefusedError, Starter
from .revisions import Revision, export
from .worker import PLUGIN, Spec

GRACE_S = 60.0  # that a process may be silent beyond the time of the whole session
ENDED = "the session was ended before it was decided"
UNDECIDED = "it is too near to the limit, or the machine too noisy"


class Session:
    """The pairs of a session, from their processes to their verdicts.

    Attributes:
        pairs: What is known of each, by its id.
        ended: Why tests ended in their processes before they met a pair, by their ids.
        unreached: Tests that no process came to before the time was up, by their ids.
        wall_s: How long all of it took, in seconds; 0 before it began.
        hint: What to do about a pair that is not decided.
    """

    def __init__(self, config: pytest.Config, paths: Sequence[str]) -> None:
        self.pairs: dict[str, PairRecord] = {}
        self.ended: dict[str, str] = {}
        self.unreached: set[str] = set()
        self.wall_s, self.hint = 0.0, ENDED
        self._max_time_s: float = config.getoption("paired_max_time")
        self._config, invocation = config, config.invocation_params
        arguments = ["-p", PLUGIN, f"--rootdir={config.rootpath}", *invocation.args]
        if config.pluginmanager.has_plugin("pytest_cov"):
            arguments.insert(0, "--no-cov")  # to measure it would take most of the time
        silent_s = self._max_time_s + GRACE_S
        self._starter = Starter(arguments, invocation.dir, paths, silent_s)
        self._files: dict[str, Path] = {}  # of the tests, by their ids, in their order
        self._order: dict[str, int] = {}
        self._test = SequentialTest({})
        self._number = 0  # of the process
        self._revisions: dict[str, Revision | UserError] = {}
        self._folder = Path()
        self._worker_input: dict[str, Any] = {}
        self._start_s = self._export_s = 0.0  # when it began; how long revisions took to export

    def measure(
        self,
        items: Sequence[pytest.Item],
        show: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        """Measure the pairs of all tests, until each is decided or time is up.

        Progress is shown, and said is whether another run holds the machine.

        Raises:
            UserError: A process fails outside of any test, or a plugin does.
        """
        self._worker_input = _worker_input(self._config)
        self._files = {item.nodeid: item.path for item in items}
        self._order = {test: number for number, test in enumerate(self._files)}
        with exclusive_machine(say), TemporaryDirectory(prefix="paired-") as folder:
            self._folder, self._start_s = Path(folder).resolve(), wall_clock()
            try:
                while not self._number or (self._test.open_cases() and not self._is_time_up()):
                    phase = "screening" if self._test.suspects is None else "confirming"
                    of = counted(len(self._test.open_cases()), "pair")
                    of = f"{of} open" if self._number else counted(len(items), "test")
                    show(f"paired: {phase}, process {self._number + 1}, {of}")
                    self._measure_once()
                    self._number += 1
                self._end()
            finally:
                self.wall_s = wall_clock() - self._start_s

    def _spent_s(self) -> float:
        """Return how long it has measured: to export and build a revision does not count."""
        return wall_clock() - self._start_s - self._export_s

    def _is_time_up(self) -> bool:
        return self._spent_s() > self._max_time_s

    def _end(self) -> None:
        """Leave open what is not decided, where the time is up."""
        self.hint = UNDECIDED
        open_pairs = self._test.open_cases()
        if open_pairs or self.unreached:
            minutes = minutes_to_try(self._number, self._spent_s() / self._number)
            self.hint = f"the time is up: try --paired-max-time {minutes}m"
        for name in open_pairs:
            self.pairs[name].end()
        self._test.leave_open(open_pairs)

    def _measure_once(self) -> None:
        """Measure the open pairs in a process, or in another after each test that ended one."""
        found: dict[str, float] = {}
        before = {name: pair.misses for name, pair in self.pairs.items()}
        left = list(self._files)
        if self._number:
            wanted = {self.pairs[name].place[0] for name in self._test.open_cases()}
            left = [test for test in left if test in wanted]
        while left:
            at = self._run_process(left, found)
            left = [] if at is None else left[left.index(at) + 1 :]
            if self._is_time_up():
                break
        self.unreached = set(left)
        for name in self._test.open_cases().keys() - found:
            pair = self.pairs[name]
            if pair.misses == before.get(name, 0) and pair.place[0] not in self.unreached:
                pair.miss(self.ended.get(pair.place[0], "its test did not come to it"))
        failed = [name for name, pair in self.pairs.items() if pair.reason is not None]
        self._test.leave_open(failed)
        still = self._test.open_cases()
        self._test.add({name: value for name, value in found.items() if name in still})

    def _spec(self, tests: Sequence[str]) -> Spec:
        open_pairs = self._test.open_cases()
        return Spec(
            arguments=(),
            files=list(dict.fromkeys(str(self._files[test]) for test in tests)),
            tests=tests,
            closed=[name for name in self.pairs if name not in open_pairs],
            counted=[name for name, pair in self.pairs.items() if pair.ours_bytes is not None],
            number=self._number,
            worker_input=self._worker_input,
        )

    def _base(self, name: str, tests: Sequence[str]) -> AbstractContextManager[PairProcess]:
        """Return a process, to be entered, that runs tests at a revision.

        Raises:
            UserError: It cannot be had.
        """
        revision = self._revision(name)
        spec = self._spec([one for one in tests if revision.place(self._files[one]).exists()])
        spec = replace(
            spec,
            files=[str(revision.place(Path(one))) for one in spec.files],
            revision=name,
            folder=str(revision.version.folder),
            root=str(revision.root),
            packages=revision.packages,
        )
        return self._starter.started(spec, revision)

    def _run_process(self, tests: Sequence[str], found: dict[str, float]) -> str | None:
        """Follow a process, and those of revisions beside it; return the test that ended it."""
        with ExitStack() as stack:
            head = stack.enter_context(self._starter.started(self._spec(tests)))
            # Not from the first: what ended one revision's process would end the next one too.
            bases = Bases(lambda name, at: self._base(name, tests[tests.index(at) :]), stack)
            at: str | None = None
            pair: PairRecord | None = None
            begun: set[str] = set()
            while not head.is_finished and (event := head.read()) is not None:
                match event["event"]:
                    case "at":
                        at, pair = event["test"], None
                        begun.add(event["test"])
                    case "ended" if event["test"] is not None:
                        self.ended.setdefault(event["test"], event["reason"])
                    case "met":
                        pair = self._meet(event)
                    case "ready" if pair is not None:
                        is_lost = self._time_against(head, bases, pair, found)
                        if is_lost and self._is_time_up():
                            return at
                    case "ready":
                        head.go_on()
                    case "timed" if pair is not None:
                        found[pair.id] = event["log_ratio"]
                        pair.take(event["ours_s"], event["theirs_s"], event["held"])
                    case "refused" if pair is not None:
                        pair.reason, pair.differs = event["reason"], event["differs"]
            reason = head.end().reason
            if head.is_finished:
                bases.finish()
                if head.failure is not None:
                    self.ended = dict.fromkeys({*tests} - begun, head.failure) | self.ended
                return None
        if at is None:
            raise UserError(f"pytest must run the tests in processes of their own; {reason}")
        if pair is None or pair.id in found:
            self.ended.setdefault(at, reason)
        else:
            pair.miss(reason)
        return at

    def _meet(self, event: Event) -> PairRecord | None:
        """Return what is known of a pair; None for one that is met when all are confirmed."""
        name = event["pair"]
        if name not in self.pairs and self._test.suspects is None:
            limits = event["slower_than"], event["larger_than"], event["against"]
            pair = self.pairs[name] = PairRecord(name, *limits)
            self._test.cases[name] = pair.state
        return self.pairs.get(name)

    def add_unmet(self, pair: Pair, item: pytest.Item) -> PairRecord:
        """Return what is known of a pair that no process has met: why."""
        larger_than = None if pair.larger_than is None else float(pair.larger_than)
        record = PairRecord(pair.id, float(pair.slower_than), larger_than, pair.against)
        how = self.ended.get(item.nodeid, "it did not come to this call")
        if "paired" not in getattr(item, "fixturenames", ()):
            how = "it takes paired by getfixturevalue; name it as an argument of the test"
        if item.nodeid not in self.unreached or item.nodeid in self.ended:
            record.reason = f"a test with paired must run in processes of its own too; there: {how}"
        self.pairs[pair.id] = record
        return record

    def _time_against(
        self, head: PairProcess, bases: Bases, pair: PairRecord, found: dict[str, float]
    ) -> bool:
        """Time a pair's test here against the same test at another revision.

        Returns whether the process of that revision has ended over it.
        """
        is_lost = False
        assert pair.against is not None
        try:
            revision = self._revision(pair.against)
            if not revision.place(self._files[pair.place[0]]).exists():
                raise RefusedError(f"its file is not in {revision.version}")
            base = bases.ready_for(pair, self._order)
            ratio = interleave(head, base, seed=self._number)
            theirs, ours = base.count_bytes(), head.count_bytes()
        except (RefusedError, UserError) as error:
            pair.reason = f"against {pair.against}: {error}"
        except CrashError as error:
            is_lost = head.pair is not None
            if is_lost:
                pair.miss(f"at {pair.against}, {error}")
                bases.running.pop(pair.against, None)
        else:
            held = None if ours is None or theirs is None else (ours, theirs)
            found[pair.id] = ratio.log_ratio
            pair.take(ratio.f_median_s, ratio.g_median_s, held)
        if head.pair is not None:
            head.go_on()
        return is_lost

    def _revision(self, name: str) -> Revision:
        """Return a revision, exported once in a session.

        Raises:
            UserError: It cannot be had.
        """
        if name not in self._revisions:
            start_s = wall_clock()
            try:
                folder = self._folder / str(len(self._revisions))
                self._revisions[name] = export(name, folder, self._config.rootpath)
            except UserError as error:
                self._revisions[name] = error
            self._export_s += wall_clock() - start_s
        found = self._revisions[name]
        if isinstance(found, UserError):
            raise found
        return found


def _worker_input(config: pytest.Config) -> dict[str, Any]:
    """Return what plugins hand to a worker of pytest-xdist, which a process is for them.

    Raises:
        UserError: One of them cannot.
    """
    manager = config.pluginmanager
    # pytest-randomly reads its seed without pytest-xdist too.
    seed = config.getoption("randomly_seed", None)
    handed = {"workerid": "paired", "testrunuid": "paired", "randomly_seed": seed}
    if not manager.has_plugin("xdist"):
        return handed
    node = SimpleNamespace(config=config, workerinput=handed, gateway=SimpleNamespace(id="paired"))
    left_out = [manager.get_plugin("_cov")]  # whose workers report to one that has started them
    try:
        manager.subset_hook_caller("pytest_configure_node", left_out)(node=node)
        json.dumps(handed)
    except Exception as error:
        raise UserError(
            "pytest's plugins must hand to a process, as JSON, what they hand to a worker of "
            f"pytest-xdist; one raised {in_one_line(error)}: leave that plugin out by -p no:NAME"
        ) from error
    return handed
