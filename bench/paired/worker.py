"""One process of a session with `paired`: it runs the tests with pytest, and times in them.

Its first line of input is a `Spec`. It reports by events, one JSON object a line: `at` a test, and
`ended` of one that did not pass; `met` a pair, and then `timed` or `refused`; `finished`. A pair
against another revision is `ready`, does a `slice` when it is asked, and is `served` once it has
been asked for the `count` of its bytes, or to go on.
"""

import gc
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ..common.errors import UserError, single_line
from ..common.garbage import gc_paused
from ..common.paths import FOLDER, PACKAGE
from ..machine.host import Device
from ..measure.ratio import LocalTarget, interleave
from .call import DifferError, Pair, peak_bytes, told
from .plugin import MODE, Mode

PLUGIN = f"{PACKAGE}.plugin"
LAYOUTS = ("src", "lib", "python", "")  # the folders that usually hold a repository's packages


@dataclass(frozen=True)
class Spec:
    """What a process is to do."""

    arguments: Sequence[str]  # of pytest's command line
    files: Sequence[str]  # that hold the tests
    tests: Sequence[str]  # by their ids, in the order in which they run
    closed: Sequence[str]  # pairs that are decided, by their ids
    counted: Sequence[str]  # pairs whose bytes are known
    number: int  # of the process in its session, from 0
    worker_input: Mapping[str, Any] = field(default_factory=dict)  # as pytest-xdist has it
    revision: str | None = None  # that it has in place of the working tree
    folder: str = ""  # that holds the packages of the revision
    root: str = ""  # of the working tree, where none of them may come from
    packages: Sequence[str] = ()  # that must come from the folder


class Channel:
    """What the parent asks and what it is told, apart from what the tests read and print."""

    def __init__(self) -> None:
        self._questions = os.fdopen(os.dup(0), encoding="utf-8")
        self._events = os.fdopen(os.dup(1), "w", encoding="utf-8")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)  # what pytest prints goes to the log

    def say(self, event: str, **content: Any) -> None:
        """Report an event."""
        print(json.dumps({"event": event, **content}), file=self._events, flush=True)

    def question(self) -> dict[str, Any] | None:
        """Wait for the next question; None once there is no parent."""
        line = self._questions.readline()
        return json.loads(line) if line else None


class Process:
    """The plugin of pytest that makes a session a measuring process."""

    def __init__(self, spec: Spec, channel: Channel) -> None:
        self.spec, self.channel = spec, channel
        self._own: set[str] = set()  # modules that may be where they are

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Have `paired` measure, and nothing else report, stop, or remove what is the session's.

        Plugins that write files leave that to their parent in a worker of pytest-xdist, which is
        told by `workerinput`.
        """
        mode: Mode = self
        config.stash[MODE] = mode
        vars(config)["workerinput"] = dict(self.spec.worker_input)
        settings = {"maxfail": 0, "usepdb": False, "trace": False, "stepwise": False,
                    "stepwise_skip": False, "stepwise_reset": False, "basetemp": None,
                    "continue_on_collection_errors": True, "benchmark_json": None,
                    "benchmark_save": None, "benchmark_autosave": None}  # fmt: skip
        for name, value in settings.items():
            if hasattr(config.option, name):
                setattr(config.option, name, value)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        """Look into the files of the tests alone."""
        session.config.args = list(self.spec.files)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests that are asked for, in their order."""
        by_id = {item.nodeid: item for item in items}
        items[:] = [by_id[test] for test in self.spec.tests if test in by_id]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Say what cannot be collected."""
        if report.failed:
            reason = f"{single_line(report.nodeid)}: {_reason(report)}"
            self.channel.say("ended", test=None, reason=reason)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say which test begins."""
        self.channel.say("at", test=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Say why a test has not passed."""
        if not report.passed:
            self.channel.say("ended", test=report.nodeid, reason=_reason(report))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Say that all is done."""
        self.channel.say("finished")
        gc.freeze()  # or pytest and Python look through all that is imported at their end

    def __call__(self, item: pytest.Item, pair: Pair) -> None:
        """Measure a pair that is open; raises what a callable of it raises, in one line."""
        __tracebackhide__ = True
        is_base = self.spec.revision is not None
        if pair.id in self.spec.closed or (is_base and pair.against != self.spec.revision):
            return
        larger_than = None if pair.larger_than is None else float(pair.larger_than)
        limits = {"slower_than": float(pair.slower_than), "larger_than": larger_than}
        self.channel.say("met", pair=pair.id, against=pair.against, **limits)
        try:
            _prepare(pair.device)
            if pair.against is None:
                self._measure(pair)
            else:
                self._serve(pair)
        except Exception as error:
            is_mistake = isinstance(error, UserError)
            reason = str(error) if is_mistake else f"a call must not raise; {told(error)}"
            differs = isinstance(error, DifferError)
            self.channel.say("refused", pair=pair.id, reason=reason, differs=differs)
            raise UserError(reason) from error

    def _measure(self, pair: Pair) -> None:
        """Time ours against theirs in slices in turns, and count their bytes once in a session."""
        number = self.spec.number
        calls = pair.calls(number)
        pair.check(*calls)
        step = -1 if number % 2 else 1  # in turns
        ours, theirs = [LocalTarget(call, pair.device) for call in calls[::step]][::step]
        found = interleave(ours, theirs, seed=number)
        times = {"ours_s": found.f_median_s, "theirs_s": found.g_median_s}
        is_known = pair.id in self.spec.counted
        held = None if is_known else [peak_bytes(call, pair.device) for call in calls]
        self.channel.say("timed", pair=pair.id, log_ratio=found.log_ratio, held=held, **times)

    def _serve(self, pair: Pair) -> None:
        """Get ours ready, then do what the parent asks."""
        (call,) = pair.calls()
        pair.check(call)
        self._require_own_packages()
        ready = LocalTarget(call, pair.device)
        self.channel.say("ready", pair=pair.id, about_s=ready.about_s, calls=ready.calls)
        with gc_paused():
            while (asked := self.channel.question()) is not None and asked["do"] == "slice":
                self.channel.say("slice", **ready.time_batch()._asdict())
        held = None
        if asked is not None and asked["do"] == "count" and pair.id not in self.spec.counted:
            held = peak_bytes(call, pair.device)
        self.channel.say("served", held=held)

    def _require_own_packages(self) -> None:
        """Refuse what a revision imports from the working tree, or a package that is installed."""
        spec, folder = self.spec, Path(self.spec.folder)
        if spec.revision is None:
            return
        prefix = Path(sys.prefix).resolve()
        for name in sys.modules.keys() - self._own:
            path = _place(sys.modules[name])
            if path is None or path.is_relative_to(folder):
                continue
            is_installed = "site-packages" in path.parts or path.is_relative_to(prefix)
            is_left = path.is_relative_to(spec.root) and not is_installed
            is_named = name.partition(".")[0] in spec.packages
            is_own = is_left or (not spec.packages and _has(folder, name))
            if is_named or (is_own and not path.is_relative_to(FOLDER)):
                raise UserError(
                    f"all must come from that revision; {name} comes from {single_line(path)}: "
                    "name it in packages of [tool.mlr-bench], as src/theirs, give its folder to "
                    "pytest's pythonpath in the configuration file, or uninstall it"
                )
            self._own.add(name)


def _place(module: object) -> Path | None:
    """Return a module's file, or a namespace package's first folder; None for what has none."""
    known = vars(module) if isinstance(module, ModuleType) else {}
    path = known.get("__file__") or next(iter(known.get("__path__") or ()), None)
    return Path(path).resolve() if isinstance(path, str) else None


def _has(folder: Path, name: str) -> bool:
    """Say whether a revision has a module where repositories have them.

    It has all of a package that it has the `__init__` of, and of a namespace what it has of it.
    """
    first, *_ = parts = name.split(".")
    if first in sys.stdlib_module_names:
        return False
    places = [str(folder / one) for one in LAYOUTS]
    for part in parts:
        spec = PathFinder.find_spec(part, places)
        if spec is None or spec.origin is not None:
            return spec is not None
        places = list(spec.submodule_search_locations or ())
    return False


def _prepare(device: str) -> None:
    """Load what drives a type of device, if it is another than the host, and leave torch as it is.

    Raises:
        UserError: There is no such device here.
    """
    kind = device.partition(":")[0]
    if kind == Device.name:
        return
    try:
        import torch

        precision = torch.get_float32_matmul_precision()
        from ..machine.devices import DEVICES, unavailable_reason

        torch.set_float32_matmul_precision(precision)  # which the import has set for mlr
        why = unavailable_reason(device) if kind in DEVICES else f"known are {', '.join(DEVICES)}"
    except ImportError as error:
        why = f"torch cannot be imported, {error}"
    if why is not None:
        raise UserError(f"device of paired must be usable here; got {device!r}: {why}")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Say in one line why something was skipped or failed."""
    if isinstance(report.longrepr, tuple):  # of a skip: its file, line and reason
        return single_line(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else report.longreprtext
    lines = [line.removeprefix("E ").strip() for line in text.splitlines() if line.strip()]
    last = (lines or [report.outcome])[-1 if crash is None else 0]
    return single_line(last.removeprefix("Failed: "))


def main() -> None:
    """Do what the first line of input says, and exit as pytest does."""
    channel = Channel()
    asked = channel.question()
    if asked is None:
        sys.exit("a measuring process is started by its parent: use pytest --paired")
    channel.say("began")
    spec = Spec(**asked)
    sys.exit(pytest.main([*spec.arguments], plugins=[Process(spec, channel)]))
