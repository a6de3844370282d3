"""pytest's side of the suite: options, parameters, ids, the fixture that measures, the hooks."""

import gc
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from threadpoolctl import threadpool_limits

from mlr import OPERATIONS, Case, get_kernel

from ..common.errors import UserError
from ..common.paths import COMMAND
from ..common.provenance import commit_info
from ..common.units import counted
from ..machine.devices import device_of
from ..machine.environment import thread_settings
from ..plan.benchmark import FILE, Benchmark, full_name, planned
from ..plan.selection import Selection, add_axes
from ..store.schema import SCHEMA
from .recorder import Recorder

PARAMETERS = ("operation", "kernel", "device", "dtype", "threads")  # and the axes
MIN_ROUNDS = 5  # pytest-benchmark's own default
PLAN = pytest.StashKey[list[Benchmark]]()
RECORD = pytest.StashKey[Recorder]()


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the axes, and what the runner tells its processes."""
    group = parser.getgroup("mlr", "mlr: which cases to measure")
    config = pluginmanager.get_plugin("pytestconfig")
    try:
        add_axes(group.addoption, arguments=config.invocation_params.args if config else ())
    except UserError as error:
        raise pytest.UsageError(str(error)) from error
    group.addoption("--mlr-journal", type=Path, help="of a run: what is left, and the results")
    group.addoption("--mlr-process", type=int, help="of a run: 0 verifies, the others time")


def pytest_configure(config: pytest.Config) -> None:
    """Parse the axes before anything is collected; a mistake is one line and exit status 4."""
    try:
        axes = Selection.from_args(config.option)
        config.stash[PLAN] = planned(axes)
    except (UserError, ValueError) as error:
        raise pytest.UsageError(str(error)) from error
    if config.getoption("numprocesses", None) and not config.getoption("benchmark_disable"):
        raise pytest.UsageError("benchmarks must run one at a time; got -n: leave it out")
    path = config.getoption("benchmark_json")  # refused before and not after all is measured
    folder = Path(path).absolute().parent if path else None
    if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise pytest.UsageError(f"--benchmark-json needs a folder that can be written; got {path}")
    few_rounds = config.getoption("benchmark_min_rounds", MIN_ROUNDS) == MIN_ROUNDS
    of_run = config.getoption("mlr_journal"), config.getoption("mlr_process")
    record = config.stash[RECORD] = Recorder(axes, *of_run, few_rounds=few_rounds)
    if record.state is None:  # the environment of a run's processes had its libraries start so
        torch.set_num_threads(axes.threads[0])
        threadpool_limits(axes.threads[0])
        os.environ |= thread_settings(axes.threads[0])  # of what is loaded later


def pytest_report_header(config: pytest.Config) -> str:
    """Say what will be measured, and how it differs from a run."""
    plan = config.stash[PLAN]
    devices = ", ".join(dict.fromkeys(entry.case.device for entry in plan))
    return (
        f"mlr: {counted(len(plan), 'benchmark')} on {devices}, "
        f"{counted(plan[0].threads, 'thread')}, inputs in cache where they fit\n"
        f"     one process, the memory allocator as found: `{COMMAND} run` takes several, and "
        "fixes it"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the benchmark every planned case; parameters are strings and integers."""
    if "measure" not in metafunc.fixturenames:
        return
    plan = metafunc.config.stash[PLAN]
    axes = list(dict.fromkeys(axis for entry in plan for axis in entry.case.by_axis))
    metafunc.fixturenames.extend((*PARAMETERS, *axes))  # `measure` reads them off the test
    values = [
        pytest.param(
            *(case.operation, kernel.name, case.device, case.dtype, threads),
            *map(case.by_axis.get, axes),  # None of an axis that only others have
            marks=benchmark_mark(case),
        )
        for kernel, case, threads in plan
    ]
    ids = [f"{entry.case.operation}-{entry.id}" for entry in plan]
    metafunc.parametrize((*PARAMETERS, *axes), values, ids=ids)


def benchmark_mark(case: Case) -> pytest.MarkDecorator:
    """Return the mark that groups the kernels of a case, timed by the clock of its device."""
    device = device_of(case.device)
    timer = {} if device.is_host else {"timer": device.clock}  # the host's is --benchmark-timer
    return pytest.mark.benchmark(group=f"{case.operation} {case.id}", **timer)


@pytest.fixture
def measure(request: pytest.FixtureRequest, benchmark: Any) -> Callable[[], None]:
    """Return the function that measures this test's benchmark and records it."""
    record = request.config.stash[RECORD]
    given = request.node.callspec.params
    operation, name, device, dtype, threads = (given[one] for one in PARAMETERS)
    sizes = [given[axis] for axis in OPERATIONS[operation].axes]
    case = Case(operation, device, dtype, *sizes, seed=record.axes.seed)
    entry = Benchmark(get_kernel(name, operation), case, threads)
    benchmark.fullname = full_name(entry)
    return lambda: record.measure(entry, benchmark)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what this process of a run has yet to measure with its threads, in a random order."""
    record = config.stash[RECORD]
    if record.state is not None:
        by_name = {_name_of(item): item for item in items}
        left = record.state.left(record.process or 0, record.axes.threads[0])
        items[:] = [by_name[name] for name in left]
        random.Random(f"{record.axes.seed} {record.process}").shuffle(items)


def _name_of(item: pytest.Item) -> str:
    """Return the full name of the benchmark that a test measures, wherever its file lies."""
    return f"{FILE}::{item.name}"


def pytest_runtestloop(session: pytest.Session) -> None:
    """Note where and how the session runs before its first case."""
    gc.collect()
    gc.freeze()  # a collection looks through what is new, not through all of torch: 0.1 s less each
    plan, here = session.config.stash[PLAN], set(map(_name_of, session.items))
    devices = {entry.case.device for entry in plan if full_name(entry) in here}
    session.config.stash[RECORD].begin(devices)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Spare the last collections all that is imported, up to 0.7 s of them."""
    gc.freeze()


def pytest_benchmark_generate_commit_info(config: pytest.Config) -> dict[str, Any]:
    """Have pytest-benchmark's own file name the code that was measured, not what lies around."""
    return commit_info()


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add schema, outcomes, machine, settings and packages to pytest-benchmark's own file."""
    record = config.stash[RECORD]
    outcomes = [{"fullname": name, **columns} for name, columns in record.results.items()]
    output_json.update(schema=SCHEMA, outcomes=outcomes, **record.surroundings())
