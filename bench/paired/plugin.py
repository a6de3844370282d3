"""pytest's side of `paired`: its options, the fixture, and what becomes of a test that uses it."""

import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from inspect import signature
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from ..common.errors import UserError
from ..common.paths import PACKAGE
from ..common.units import counted, duration
from .call import Pair

if TYPE_CHECKING:
    from .session import Session

Mode = Callable[[pytest.Item, Pair], None]  # what is done about a pair
MODE = pytest.StashKey[Mode]()
SESSION = pytest.StashKey["Session"]()
OPEN = pytest.StashKey[list[str]]()  # of a test: its inconclusive pairs in words
UNDECIDED = "inconclusive"  # the outcome, for pytest's summary
PATHS = tuple(sys.path)  # before pytest adds to it; processes begin with the same


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("paired", "paired: two callables of a test against each other")
    group.addoption(
        "--paired", action="store_true",
        help="measure which is slower, in fresh processes; without it both are called once",
    )  # fmt: skip
    group.addoption(
        "--paired-max-time", type=duration, default=300.0, metavar="TIME",
        help="after which no further process is started, such as 90s or 5m (default: 5m)",
    )  # fmt: skip
    group.addoption(
        "--paired-inconclusive-exit", type=int, default=0, metavar="STATUS",
        help="exit status where nothing failed and something is inconclusive (default: 0)",
    )  # fmt: skip
    group.addoption(
        "--paired-json", type=Path, metavar="PATH", help="a file for pytest-benchmark compare"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Decide what `paired` does; a mistake among the options is one line."""
    if MODE in config.stash:  # a process that measures
        return
    path: Path | None = config.getoption("paired_json")
    if not config.getoption("paired"):
        if path is not None:
            raise pytest.UsageError(f"--paired-json needs --paired; got {path} alone: give both")
        config.stash[MODE] = _compare_results
        return
    if config.getoption("numprocesses", None) or config.getoption("tx", None):
        raise pytest.UsageError("--paired measures one process at a time; got -n: leave it out")
    folder = None if path is None else Path(path).absolute().parent
    if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise pytest.UsageError(f"--paired-json needs a folder that can be written; got {path}")
    if path is not None and path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
        raise pytest.UsageError(
            f"--paired-json needs a file that can be written; got {path}: name another"
        )
    from .session import Session  # which takes longer to import than a process has to spare

    session = config.stash[SESSION] = Session(config, PATHS)
    config.stash[MODE] = lambda item, pair: _apply_verdict(session, item, pair)


def paired(*_: Any, **__: Any) -> NoReturn:
    """Say in one line that `paired` is a fixture: it was imported, and called."""
    sys.exit(
        "paired is a fixture of pytest; it was imported and called: write `def test_it(paired)`, "
        f"which calls it, and run `pytest -p {PACKAGE}.plugin`"
    )


@pytest.fixture(name="paired")
def paired_fixture(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Assert that one callable takes less than so many times another's time.

    `paired(ours, theirs=None, *, inputs=None, slower_than=1.05, larger_than=None, against=None,
    device="cpu", equal=None)`:

    Args of the function:
        ours: What must not be slow.
        theirs: What it is held against.
        inputs: Returns the arguments of both, as a tuple, or the only one. It is called once in
            each process; each callable gets a deep copy of its own, and the same one in each call.
        slower_than: The test passes if ours takes less than so many times the time of theirs, and
            fails if it takes more; 1.05 lets it take up to 5 % longer, 0.5 at most half the time.
        larger_than: Ours may hold so many times the bytes of theirs at peak, and 4 KiB more.
        against: A revision of the repository, in place of theirs: ours of the same test there.
        device: Whose clock counts, by torch's name.
        equal: Says of both results whether they are equal, or asserts it. Without it arrays,
            tensors and frames are compared as their libraries do, containers by element, floats
            to 7 digits, and all else by ==.

    Without `--paired` each is called once and the results are compared.
    """
    numbers, mode = count(1), request.config.stash[MODE]

    def paired(*given: Any, **options: Any) -> None:
        __tracebackhide__ = True
        mistake: str | None = None
        try:
            mode(request.node, _pair(f"{request.node.nodeid}#{next(numbers)}", given, options))
        except UserError as error:
            mistake = str(error)
        if mistake is not None:  # not above, or pytest would show both
            pytest.fail(mistake, pytrace=False)

    return paired


def _pair(name: str, given: Sequence[Any], options: Mapping[str, Any]) -> Pair:
    """Return a pair of what `paired` was called with.

    Raises:
        UserError: It takes no such arguments.
    """
    try:
        signature(Pair).bind(name, *given, **options)
    except TypeError as error:
        raise UserError(
            "paired takes ours and theirs, and by name inputs, slower_than, larger_than, against, "
            f"device and equal; {error}: correct the call"
        ) from error
    return Pair(name, *given, **options)


def _compare_results(_: pytest.Item, pair: Pair) -> None:
    """Call both once and compare the results."""
    __tracebackhide__ = True
    pair.check(*pair.calls())


def _apply_verdict(session: "Session", item: pytest.Item, pair: Pair) -> None:
    """Pass or fail by what the processes found; what is inconclusive is noted."""
    __tracebackhide__ = True
    from .decision import INCONCLUSIVE, PASSED

    record = session.pairs.get(pair.id) or session.add_unmet(pair, item)
    words = record.words(session.hint)
    if record.outcome == INCONCLUSIVE:
        item.stash.setdefault(OPEN, []).append(words)
    elif record.outcome != PASSED:
        raise UserError(words)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Measure all pairs before the first test."""
    config = session.config
    measured = config.stash.get(SESSION, None)
    items = [item for item in session.items if "paired" in getattr(item, "fixturenames", ())]
    is_stopped = session.testsfailed and not config.option.continue_on_collection_errors
    if measured is None or not items or is_stopped or config.option.collectonly:
        return
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    is_terminal = reporter is not None and reporter.isatty

    def show(text: str) -> None:
        if is_terminal:
            reporter.rewrite(text, erase=True)

    say: Callable[[str], None] = print if reporter is None else reporter.write_line
    if not is_terminal:
        most_s = config.getoption("paired_max_time")
        say(f"paired: {counted(len(items), 'test')} in fresh processes, for {most_s:g} s at most")
    try:
        measured.measure(items, show, say)
    except UserError as error:
        raise pytest.UsageError(str(error)) from error
    if is_terminal:
        reporter.rewrite("", erase=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skipped test of one that would pass with an inconclusive pair."""
    report = yield
    words = item.stash.get(OPEN, [])
    if call.when == "call" and report.passed and words and not hasattr(report, "wasxfail"):
        path, line, _ = item.location
        report.outcome = "skipped"
        report.longrepr = (path, (line or 0) + 1, f"Skipped: {UNDECIDED}: {words[0]}")
        report.user_properties.append((UNDECIDED, words[0]))
    return report


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Give an inconclusive test a letter and a word of its own."""
    if report.skipped and UNDECIDED in dict(getattr(report, "user_properties", ())):
        return UNDECIDED, "I", (UNDECIDED.upper(), {"yellow": True})
    return None


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the file, and have a session in which nothing failed, but not all passed, say so."""
    config = session.config
    measured = config.stash.get(SESSION, None)
    if measured is None or not (measured.wall_s or measured.pairs):
        return
    if (path := config.getoption("paired_json")) is not None:
        from .output import write_json

        write_json(path, measured.pairs.values(), measured.wall_s)
    if exitstatus == pytest.ExitCode.OK and _undecided(measured):
        session.exitstatus = config.getoption("paired_inconclusive_exit")


def _undecided(measured: "Session") -> bool:
    return any(pair.outcome == UNDECIDED for pair in measured.pairs.values())


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show what was found of each pair."""
    measured = config.stash.get(SESSION, None)
    if measured is None or not measured.pairs:
        return
    from .output import rows

    terminalreporter.section("paired")
    for line, colour in rows(measured.pairs.values()):
        terminalreporter.write_line(line, **{colour: True})
    for pair in measured.pairs.values():
        if pair.outcome == UNDECIDED:
            terminalreporter.write_line(f"{pair.id}: {pair.words(measured.hint)}")
