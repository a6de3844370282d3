"""pytest's side of the suite: options, parameters, ids, the fixture that measures, the hooks."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.utils import get_commit_info

from mlr import Case, get_kernel

from ..common.errors import UserError
from ..common.units import counted
from ..machine.devices import DEVICES, absent, device_of
from ..machine.environment import threads
from ..machine.info import machine_info, packages, settings
from ..measure.benchmark import BenchmarkFailedError, Rounds, Take, examine, time_once
from ..measure.ceilings import measure_ceilings
from ..measure.clock import PhaseTimer
from ..plan.benchmark import Benchmark, planned
from ..plan.feasibility import Ceilings, Outcome, foretell
from ..plan.grid import LONGEST_CALL_S
from ..plan.selection import Selection, add_axes
from ..stats.passes import summarise
from ..store.schema import SCHEMA
from .journal import JOURNAL_LOST, Journal

_ALIKE = ("kernel", "stage", "device", "dtype")
_SIZES = ("batch", "in_features", "out_features")
PARAMETERS = ("kernel", "device", "dtype", "batch", "in_features", "out_features")
MIN_ROUNDS = 5  # pytest-benchmark's own default
SLOW_CALL_S = 0.05  # a call this slow is timed in fewer rounds, unless rounds were asked for
SLOW_ROUNDS = 2
PLAN = pytest.StashKey[list[Benchmark]]()
RECORD = pytest.StashKey["Record"]()


class Record:
    """What became of every case so far, and the journal that it is written to at once."""

    def __init__(self, axes: Selection, journal: str | None, number: int | None) -> None:
        self.axes = axes
        self.outcomes: dict[str, Outcome] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self.journal = Journal(Path(journal)) if journal else None
        self.number = number
        self.parent = os.getppid()
        self._ceilings: dict[str, Ceilings] = {}
        self._out_of_memory: list[dict[str, Any]] = []
        for event in self.journal.new_events() if self.journal else ():
            self._learn(event)

    def _learn(self, event: dict[str, Any]) -> None:
        if event["event"] == "session":
            found = event["surroundings"]["machine"]["ceilings"]
            self._ceilings = {device: Ceilings(**measured) for device, measured in found.items()}
        elif event["event"] == "done" and event["outcome"]["status"] == "oom":
            self._out_of_memory.append(event["outcome"])

    def ceilings(self, device: str) -> Ceilings | None:
        """Measure a device's ceilings on first use; None where there is no such device."""
        if absent(device) is not None:
            return None
        if device not in self._ceilings:
            self._ceilings[device] = measure_ceilings(device)
        return self._ceilings[device]

    def hopeless(self, outcome: Outcome) -> str | None:
        """Say why a case needs no try: its kernel ran out of memory at no larger a size."""
        for other in self._out_of_memory:
            alike = all(other[name] == getattr(outcome, name) for name in _ALIKE)
            if alike and all(other[name] <= getattr(outcome, name) for name in _SIZES):
                size = "x".join(str(other[name]) for name in _SIZES)
                return f"not tried: out of memory at {size} already"
        return None

    def note(self, event: str, **content: Any) -> None:
        """Append one event to the journal, if there is one; a full disk ends the session."""
        if self.journal is None:
            return
        try:
            self.journal.append(event, **{"pass": self.number}, **content)
        except OSError as error:
            pytest.exit(f"the journal cannot be written: {error.strerror}", returncode=JOURNAL_LOST)

    def end(
        self,
        name: str,
        outcome: Outcome,
        spent: PhaseTimer,
        take: Take | None = None,
        benchmark: dict[str, Any] | None = None,
    ) -> None:
        """Record the end of a case in this pass; a case that is interrupted has none."""
        self.outcomes[name] = outcome
        if outcome.status == "oom":
            self._out_of_memory.append(outcome.columns())
        taken = take.columns(self.number or 1) if take is not None else None
        self.note("done", fullname=name, outcome=outcome.columns(), spent=asdict(spent),
                  take=taken, benchmark=benchmark)  # fmt: skip

    def surroundings(self) -> dict[str, Any]:
        """Return machine, settings and packages, as a run file holds them."""
        known = {device: asdict(found) for device, found in sorted(self._ceilings.items())}
        return {
            "machine": {**machine_info(), "ceilings": known},
            "settings": {"grid": self.axes.grid, "passes": 1, **settings()},
            "packages": packages(),
        }


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the axes, and what the runner tells its children."""
    group = parser.getgroup("mlr", "mlr: which cases to measure")
    add_axes(group.addoption)
    group.addoption("--journal", default=None, help="append each finished case to this file")
    group.addoption("--pass", default=None, type=int, help="0 examines and weighs, 1 … only times")
    group.addoption("--only", default=None, help="a JSON list of the test ids to run, in order")


def pytest_configure(config: pytest.Config) -> None:
    """Parse the axes before anything is collected; a mistake is one line and exit status 4."""
    try:
        axes = Selection.from_args(config.option)
        config.stash[PLAN] = planned(axes)
    except (UserError, ValueError) as error:
        raise pytest.UsageError(str(error)) from error
    if config.getoption("numprocesses", None) and not config.getoption("benchmark_disable"):
        raise pytest.UsageError("benchmarks must run one at a time; got -n: leave it out")
    _require_place(config.getoption("benchmark_json"))
    record = Record(axes, config.getoption("journal"), config.getoption("pass"))
    config.stash[RECORD] = record
    if record.journal is None and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads())  # as in a run; the environment of its processes says so
    for name in DEVICES:
        config.addinivalue_line("markers", f"{name}: needs a device of this type")


def pytest_report_header(config: pytest.Config) -> str:
    """Say what will be measured, and how it differs from a run."""
    plan = config.stash[PLAN]
    devices = ", ".join(dict.fromkeys(entry.case.device for entry in plan))
    return (
        f"mlr: {counted(len(plan), 'benchmark')} on {devices}, "
        f"{counted(torch.get_num_threads(), 'thread')}, inputs in cache where they fit\n"
        "     one process, the memory allocator as found: `python -m bench run` takes several, and "
        "fixes it"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the stages of which nothing is planned, instead of showing them as skipped."""
    if not collection_path.name.startswith("bench_"):
        return None
    planned_stages = {entry.case.stage for entry in config.stash[PLAN]}
    return collection_path.stem.removeprefix("bench_") not in planned_stages or None


def _require_place(path: str | None) -> None:
    """Refuse a result file that could not be written, before and not after everything is measured.

    Raises:
        pytest.UsageError: If its folder is missing or not writable.
    """
    folder = Path(path).absolute().parent if path else None
    if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise pytest.UsageError(f"--benchmark-json needs a folder that can be written; got {path}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a benchmark of a stage every planned case of it; parameters are strings and ints."""
    if "measure" not in metafunc.fixturenames:
        return
    stage = _stage(metafunc.function)
    mine = [entry for entry in metafunc.config.stash[PLAN] if entry.case.stage == stage]
    values = []
    for kernel, case in mine:
        shown = (kernel.name, case.device, case.dtype, *case.sizes)
        values.append(pytest.param(*shown, marks=marks_of(case)))
    metafunc.parametrize(PARAMETERS, values, ids=[entry.id for entry in mine])


def marks_of(case: Case) -> list[pytest.MarkDecorator]:
    """Return a case's marks; one `benchmark` mark only, since the plugin reads but the closest."""
    group = f"{case.stage} {case.id}"
    device = device_of(case.device)
    if device.is_host:
        return [pytest.mark.benchmark(group=group)]
    mark = getattr(pytest.mark, device.name)
    return [pytest.mark.benchmark(group=group, timer=device.clock), mark]


def _stage(function: Callable[..., Any]) -> str:
    return function.__name__.removeprefix("bench_")


@pytest.fixture
def measure(
    request: pytest.FixtureRequest,
    benchmark: Any,
    kernel: str,
    device: str,
    dtype: str,
    batch: int,
    in_features: int,
    out_features: int,
) -> Callable[[], None]:
    """Return the function that takes this test's case through its trial and records it."""
    record, stage = request.config.stash[RECORD], _stage(request.function)
    case = Case(stage, device, dtype, batch, in_features, out_features, record.axes.seed)
    entry = Benchmark(get_kernel(kernel), case)

    def timer(call: Callable[[], Any], about_s: float) -> Rounds | None:
        if about_s > SLOW_CALL_S and request.config.getoption("benchmark_min_rounds") == MIN_ROUNDS:
            benchmark.pedantic(call, rounds=SLOW_ROUNDS)
        else:
            benchmark(call)
        if not benchmark.enabled:
            return None
        return Rounds(float(benchmark.stats["median"]), int(benchmark.stats["rounds"]))

    def take() -> None:
        _require_runner(record)
        name, ceilings, spent = (
            request.node.nodeid,
            record.ceilings(entry.case.device),
            PhaseTimer(),
        )
        outcome = foretell(entry, ceilings, LONGEST_CALL_S[record.axes.grid])
        if outcome.status == "ok" and (reason := record.hopeless(outcome)) is not None:
            outcome.status, outcome.reason = "oom", reason
        record.note("start", fullname=name, outcome=outcome.columns())
        if outcome.status != "ok" or ceilings is None:
            record.end(name, outcome, spent)
            pytest.skip(f"{outcome.status}: {outcome.reason}")
        failure = found = None
        try:
            found = _pass(entry, outcome, ceilings, timer, spent, record.number)
        except BenchmarkFailedError as end:
            failure = f"{end.status}: {end}"
        if failure is not None:  # outside of the handler, for what it handled is no news
            _forget_time(benchmark)
            record.end(name, outcome, spent)
            pytest.fail(failure, pytrace=False)
        if found is None:
            record.end(name, outcome, spent)
            return
        if record.number is None:
            columns = summarise(outcome.columns(), [found.columns(1)], None)
            benchmark.extra_info.update(columns)
            record.results[name] = {**columns, "median_s": found.median_s}
        record.end(name, outcome, spent, found, benchmark.stats.as_dict(include_data=False))

    return take


def _pass(
    entry: Benchmark,
    outcome: Outcome,
    ceilings: Ceilings,
    timer: Callable[[Callable[[], Any], float], Rounds | None],
    spent: PhaseTimer,
    number: int | None,
) -> Take | None:
    """Do what a pass does: examine in pass 0, time in the others, both where there is but one."""
    if not number:
        examine(entry, outcome, ceilings, spent)
    return None if number == 0 else time_once(entry, outcome, timer, spent, number or 1)


def _require_runner(record: Record) -> None:
    """End the session, should the runner that started it be gone: another may have taken over."""
    if record.journal is not None and os.getppid() != record.parent:
        pytest.exit("the runner of this session is gone", returncode=JOURNAL_LOST)


def _forget_time(benchmark: Any) -> None:
    """See that a case without a right result carries no time: not in a file, not in the table."""
    benchmark.has_error = True
    if benchmark.stats is not None:
        benchmark.stats.stats.data.clear()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what the runner asked for, in its order."""
    if (only := config.getoption("only")) is not None:
        wanted = json.loads(Path(only).read_text(encoding="utf-8"))
        by_id = {item.nodeid: item for item in items}
        items[:] = [by_id[name] for name in wanted]


def pytest_runtestloop(session: pytest.Session) -> None:
    """Note where and how the session runs before its first case."""
    record = session.config.stash[RECORD]
    gc.collect()
    gc.freeze()  # a collection looks through what is new, not through all of torch: 0.1 s less each
    if record.journal is not None:
        for device in {entry.case.device for entry in session.config.stash[PLAN]}:
            record.ceilings(device)
        info = session.config._benchmarksession.get_machine_info()  # type: ignore[attr-defined]
        record.note(
            "session",
            machine_info=info,
            commit_info=get_commit_info(),
            surroundings=record.surroundings(),
        )


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add schema, outcomes, machine, settings and packages to pytest-benchmark's own file."""
    record = config.stash[RECORD]
    outcomes = [{"fullname": name, **done.columns()} for name, done in record.outcomes.items()]
    output_json.update(schema=SCHEMA, outcomes=outcomes, **record.surroundings())
