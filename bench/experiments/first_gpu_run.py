"""What has to be seen first on a machine with a GPU, in one command of about ten minutes.

Each step is a command with a time limit of its own, whose output goes to a file. A step that fails
or takes too long does not stop the next. The short ones come first: what time is left is for the
whole grids, which `run --resume` can go on with.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from rich.console import Console

import mlr
from mlr import KERNELS
from mlr.operations import STEP

from ..common.errors import UserError, single_line
from ..common.paths import IS_INSTALLED, PACKAGE, ROOT
from ..common.provenance import commit_info
from ..common.units import duration, format_percent, format_ratio, format_time, tally
from ..machine.devices import unavailable_reason
from ..machine.info import machine_slug
from ..measure.timing import wall_clock
from ..report.markdown import render_template
from ..report.tables import Column, render
from ..store.files import atomic_write
from ..store.runs import find_runs, load_frame

DEVICE = "cuda"
# What the kernels that should read narrow inputs about as fast as memory gives them are called.
NARROW = "one_pass_triton"
LEAST_EFFICIENCY = 0.7  # of the measured bandwidth, where memory is the bound
LEAST_SPEEDUP, SPEEDUP_ROWS = 5.0, 10_000  # of a step over torch.nn, of which launches take most
GATES = 5
STOP_S = 15.0  # from being asked to stop until it is killed
MEASURE = (sys.executable, "-m", PACKAGE)
PASSED, FAILED, SKIPPED, STOPPED = "passed", "failed", "skipped", "stopped"


class Row(NamedTuple):
    """What became of a step, or of one thing that is wanted of its results."""

    step: str
    outcome: str
    seconds: float
    remark: str


class Step(NamedTuple):
    """A command, how long it may take, and what is wanted of the run that it stores."""

    name: str
    command: Sequence[str]
    limit_s: float
    lacks: str | None = None  # says why it cannot be done here
    judge: Callable[[pd.DataFrame], Iterator[Row]] | None = None


COLUMNS = (
    *(Column("step", "step"), Column("outcome", "outcome"), Column("time", "seconds", format_time)),
    Column("remark", "remark"),
)


def steps(out: Path, logs: Path) -> list[Step]:
    """Return all steps, in their order; runs are stored in the results folder `out`."""
    run = (*MEASURE, "run", f"--device={DEVICE}", f"--out={out}")
    pytest = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", DEVICE)
    sanitizer, devices = shutil.which("compute-sanitizer"), torch.accelerator.device_count()
    size = ("--features=6", "--outputs=3")
    no_tests = "the tests are in a checkout; this suite is installed" if IS_INSTALLED else None
    narrow = f"--kernel={','.join(name for name in KERNELS if name.startswith(NARROW))}"
    batches = ("--dtype=float32,float64", "--batch=10000,100000,1000000,10000000")
    compared = f"--kernel=torch_nn,fused_addmm,cuda_graph,{NARROW}"
    here = str(Path(mlr.__file__).parents[1])
    gate = (*MEASURE, "gate", here, here, f"--device={DEVICE}", *size, "--batch=1000", compared)
    workers = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    trained = ("-m", "mlr.distributed", "--made", "100000", "6", "3", f"--device={DEVICE}")
    return [
        Step("tests marked cuda", (*pytest, *marked_tests()), 240, no_tests),
        Step("machine", (*MEASURE, "machine"), 120),
        Step("smoke run", (*run, "--grid=smoke"), 180),
        Step(
            "narrow run",
            (*run, *size, *batches, narrow, "--processes=2"),
            300,
            judge=judge_narrow,
        ),
        Step(
            "compute-sanitizer",
            (str(sanitizer), "--error-exitcode=9", *pytest, "-k", "triton or graph", "tests/mlr"),
            300,
            no_tests or (None if sanitizer else "compute-sanitizer is not on the PATH"),
        ),
        Step(
            "two workers",
            (*workers, *trained, "--epochs=3"),
            120,
            None if devices > 1 else "needs two GPUs; this machine has one",
        ),
        *(
            Step(f"gate, A/A, {n} of {GATES}", (*gate, "--max-time=20s", f"--out={logs / 'gate'}"),
                 120)
            for n in range(1, GATES + 1)
        ),
        Step("quick run", (*run, "--grid=quick", "--processes=2"), 1_800),
        Step("tall run", (*run, "--grid=tall", "--processes=2"), 1_800),
    ]  # fmt: skip


def marked_tests() -> list[str]:
    """Return the test files that have tests of a GPU: to collect all others takes a browser."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path) for path in files if "pytest.mark.cuda" in path.read_text(encoding="utf-8")]


def judge_narrow(frame: pd.DataFrame) -> Iterator[Row]:
    """Say of each narrow case how near it is to the bandwidth, and its speedup."""
    found: Any = frame[frame["kernel"].str.startswith(NARROW)]
    for one in found.itertuples():
        name = f"{one.operation}, {one.dtype}, {one.batch:,} rows"
        if one.status != "ok":
            yield Row(name, FAILED, float("nan"), f"{one.status}: {one.reason}")
            continue
        speedup = f"{format_ratio(one.speedup)} over {one.baseline}"
        share = f"{format_percent(one.efficiency)} of the bound, which is {one.bound}"
        wanted, holds = "", True
        if one.bound == "memory":
            wanted = f"; {LEAST_EFFICIENCY:.0%} wanted"
            holds = one.efficiency >= LEAST_EFFICIENCY
        elif one.operation == STEP.name and one.batch == SPEEDUP_ROWS:
            wanted, holds = f"; {LEAST_SPEEDUP:g}× wanted", one.speedup >= LEAST_SPEEDUP
        yield Row(name, PASSED if holds else FAILED, one.median_s, f"{speedup}; {share}{wanted}")


def run_steps(
    todo: Sequence[Step], out: Path, logs: Path, max_time_s: float, show: Callable[[str], None]
) -> Iterator[Row]:
    """Do one step after another, none beyond the time for all, and yield what became of each."""
    start = wall_clock()
    for number, step in enumerate(todo, 1):
        left_s = max_time_s - (wall_clock() - start)
        show(f"{step.name}, {number} of {len(todo)}")
        if step.lacks is not None or left_s <= 0:
            yield Row(step.name, SKIPPED, 0.0, step.lacks or "no time was left")
            continue
        before = set(find_runs(out / "runs"))
        row = run_step(step, left_s, logs / f"{number:02}.log")
        yield row
        if step.judge is not None and row.outcome == PASSED:
            found = list(step.judge(load_frame(set(find_runs(out / "runs")) - before)))
            yield from found or [Row(step.name, FAILED, 0.0, f"has no results of {NARROW}")]


def run_step(step: Step, left_s: float, log: Path) -> Row:
    """Run a command to its end or until its time is over; its output goes to a file."""
    start = wall_clock()
    with log.open("w", encoding="utf-8") as file:
        file.write(f"{' '.join(step.command)}\n\n")
        file.flush()
        code, late = _run(step.command, min(step.limit_s, left_s), file.fileno())
    seconds = wall_clock() - start
    last = single_line(log.read_text("utf-8", errors="replace").strip().rpartition("\n")[2])
    if late and left_s < step.limit_s:
        return Row(step.name, STOPPED, seconds, f"the time for all steps was over; see {log}")
    if late:
        return Row(step.name, FAILED, seconds, f"took longer than {step.limit_s:g} s; see {log}")
    if code != 0:
        return Row(step.name, FAILED, seconds, f"exit status {code}: {last}; see {log}")
    return Row(step.name, PASSED, seconds, last)


def _run(command: Sequence[str], limit_s: float, output: int) -> tuple[int, bool]:
    """Return the exit status, and whether it was stopped.

    It is first asked to stop, as by Ctrl-C: it then ends the processes that it has started itself,
    which are in sessions of their own.
    """
    late = False
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            late = True
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
        finally:
            with suppress(ProcessLookupError, PermissionError):  # nobody is left in its group
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, late


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    text = "after which no step goes on (default: 10m; 30m for the whole grids)"
    parser.add_argument("--max-time", type=duration, default=600.0, help=text)
    text = "do only steps whose name begins so (default: all)"
    parser.add_argument("--step", nargs="+", default=[""], metavar="NAME", help=text)
    text = "where logs and the summary go"
    logs = ROOT / ".benchmarks" / "first-gpu"
    parser.add_argument("--logs", type=Path, default=logs, help=text)


def run(arguments: argparse.Namespace) -> int:
    """Do the steps, and say what passed and which runs to keep; return 1 where a step failed.

    Raises:
        UserError: There is no GPU, or no step of that name.
    """
    if (reason := unavailable_reason(DEVICE)) is not None:
        raise UserError(f"first-gpu needs a GPU; {reason}; run it on a machine that has one")
    out, logs = arguments.out.absolute(), arguments.logs.absolute()
    every = steps(out, logs)
    todo = [step for step in every if step.name.startswith(tuple(arguments.step))]
    if not todo:
        names = ", ".join(step.name for step in every)
        raise UserError(f"--step takes the beginning of {names}; got {', '.join(arguments.step)}")
    logs.mkdir(parents=True, exist_ok=True)
    before = set(find_runs(out / "runs"))
    show = Console(stderr=True, highlight=False).print
    rows = list(run_steps(todo, out, logs, arguments.max_time, show))
    frame, runs = pd.DataFrame(rows), sorted(set(find_runs(out / "runs")) - before)
    outcomes = tally(frame["outcome"])
    head = {"machine": machine_slug(), "commit": commit_info(), "outcomes": outcomes}
    text = render_template("first_gpu", rows=render(frame, COLUMNS), runs=runs, **head)
    atomic_write(logs / "summary.md", f"{text}\n")
    console = Console(highlight=False)
    console.print(render(frame, COLUMNS, "console"))
    console.print(f"{outcomes}; the summary is in {logs / 'summary.md'}", markup=False)
    for path in runs:
        console.print(f"to be committed: {path}", markup=False, soft_wrap=True)
    return 1 if (frame["outcome"] == FAILED).any() else 0
