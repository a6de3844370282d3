"""What other tools say of the pairs of a session, each started as its manual says.

benchmatrix (1.2.1) compares two sets of runs of pytest, by default five each, by a bootstrap
interval of the ratio of medians, at 5 %: `measure` takes those of theirs, then those of ours;
`collect-paired` takes them in turns. With --fail-on-regression its command also fails what it
cannot decide, so its decisions and that exit status are two rules.

pytest-perf (1.0.0) has no rule for two callables: it installs a package twice, as committed and as
it lies there, and times the same lines once with each by `timeit`. Here the two versions call
theirs and ours. By its manual what takes twice as long fails; by its code no slow-down does.

tango is a tool for Rust: its rule is applied to samples of one process.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from ...common.errors import single_line
from ...common.paths import ROOT
from . import tango
from .pairs import Pair, write_file
from .session import CommandError, run_command

TANGO = "the rule of tango on one process"
ABSENT = "not installed"
STRICT = "--fail-on-regression"
PYTHON = (sys.executable, "-m")
GIT = ("git", "-c", "user.name=trial", "-c", "user.email=trial", "-c", "commit.gpgsign=false")


class Tool(NamedTuple):
    """Another tool, which judges one pair in a folder of its own beside the functions."""

    distribution: str
    rules: tuple[str, ...]  # how a report names them
    judge: Callable[[Path, Pair], Sequence[bool]]  # returns whether each rule fails the pair


def judge_by_tango(folder: Path) -> list[str]:
    """Return the pairs of a folder's functions that the rule of tango fails."""
    command = [*PYTHON, tango.__name__, str(folder / "functions.py")]
    lines = run_command(command, ROOT).stdout.splitlines()
    samples = [pair for line in lines for pair in json.loads(line).items()]
    return [name for name, some in samples if tango.fails(some)]


def judge_by_tools(
    folder: Path, pair: Pair, wanted: Mapping[str, bool]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Let the tools that are `wanted` judge a pair; a tool is named by its first rule.

    Returns the pairs that each rule fails, and of the tools that could not say why.
    """
    failed_by: dict[str, list[str]] = {}
    absent: dict[str, str] = {}
    for number, tool in enumerate(TOOLS):
        if not wanted[tool.rules[0]]:
            continue
        if installed(tool.distribution) is None:
            absent |= dict.fromkeys(tool.rules, ABSENT)
            continue
        own = folder / f"tool-{number}"
        own.mkdir()
        shutil.copyfile(folder / "functions.py", own / "functions.py")
        try:
            failed = tool.judge(own, pair)
        except (CommandError, ValueError, KeyError, TypeError, OSError) as error:
            absent |= dict.fromkeys(tool.rules, f"could not be run: {single_line(error)}")
        else:
            each = zip(tool.rules, failed, strict=True)
            failed_by |= {rule: [pair.name] * fails for rule, fails in each}
    return failed_by, absent


def installed(distribution: str) -> str | None:
    """Return the version of a tool; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _matrix(folder: Path, side: str, pair: Pair) -> str:
    """Write the test of a side for benchmatrix, and return its path in the folder."""
    (folder / side).mkdir()
    write_file(folder / side / "test_matrix.py", side=side, pair=pair)
    return f"{side}/test_matrix.py"


def _measured(folder: Path, pair: Pair) -> Sequence[bool]:
    for side in tango.SIDES:
        matrix = _matrix(folder, side, pair)
        run_command([*PYTHON, "benchmatrix", "measure", "--output", f"{side}-runs", matrix], folder)
    return _compared(folder, "theirs-runs", "ours-runs")


def _collected(folder: Path, pair: Pair) -> Sequence[bool]:
    tests = [*PYTHON, "pytest", "--benchmark-only"]
    theirs, ours = (_matrix(folder, side, pair) for side in tango.SIDES)
    collect = [*PYTHON, "benchmatrix", "collect-paired", "--output", "runs", "--"]
    run_command([*collect, *tests, theirs, ":::", *tests, ours], folder)
    return _compared(folder, "runs", "--paired")


def _compared(folder: Path, *runs: str) -> Sequence[bool]:
    compare = [*PYTHON, "benchmatrix", "compare", *runs, "--no-config", "--format", "json", STRICT]
    done = run_command(compare, folder, (0, 1))
    cells = [cell["regression"] for cell in json.loads(done.stdout)["comparisons"]]
    return "regressed" in cells, done.returncode == 1


def _exercised(folder: Path, pair: Pair) -> Sequence[bool]:
    place = folder / "pair"  # whose name is that of the package
    place.mkdir()
    shutil.copyfile(folder / "functions.py", place / "functions.py")
    for name in ("pyproject.toml", "exercises.py"):
        write_file(place / name)
    write_file(place / "version.py", side="theirs", pair=pair)
    url = place.as_uri()
    for words in ("init -q", "add .", "commit -q -m theirs", f"remote add origin {url}"):
        run_command([*GIT, *words.split(" ")], place)
    write_file(place / "version.py", side="ours", pair=pair)
    done = run_command([*PYTHON, "pytest", "exercises.py"], place, (0, 1))
    if not re.search(r"pair_perf: .*%\)", done.stdout):  # so it failed for another reason
        raise CommandError(f"no time was told: {done.stdout.strip()[-100:]}")
    return (done.returncode == 1,)


TOOLS = (
    *(Tool("benchmatrix", (name, f"{name}, {STRICT}"), judge)
      for name, judge in (("benchmatrix measure", _measured),
                          ("benchmatrix collect-paired", _collected))),
    Tool("pytest-perf", ("pytest-perf",), _exercised),
)  # fmt: skip
