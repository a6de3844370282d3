"""Measure the speedup of training over several workers, started here or by torchrun."""

import argparse
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ...common.errors import UserError
from ...common.paths import PACKAGE, RESULTS
from ...machine.environment import pinned_environment
from ...plan.selection import Selection, add_axes, thread_counts
from ..types import count, duration, say

GRID = "scaling"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add_axes(add, GRID)
    parser.set_defaults(device="cpu")
    add("--weak", action="store_true", help="as many rows for each worker (default: rows shared)")
    add("--workers", type=count, default=2, help="workers to start (default: 2)")
    launches = "how many times they are started: intervals are over these (default: 5)"
    add("--launches", type=count, default=5, help=launches)
    add("--rounds", type=count, default=30, help="timed rounds of each slice (default: 30)")
    add("--timeout", type=duration, default=60.0, help="longest all-reduce (default: 60s)")
    add("--out", type=Path, default=RESULTS / "scaling", help="folder for the result")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if "RANK" not in os.environ:
        return _launch(arguments)
    wanted = pinned_environment(os.environ, thread_counts(arguments.threads)[0])
    if wanted.items() - os.environ.items():
        again = [sys.executable, "-m", PACKAGE, *sys.argv[1:]]
        os.execve(sys.executable, again, wanted)  # libraries and the allocator read it at start

    from mlr.distributed import WorkerError, init
    from mlr.operations import GRADIENT

    from ...common.progress import doing
    from ...machine.lock import exclusive_machine
    from ...plan.benchmark import cases
    from ...scaling.measure import DEFAULT_KERNELS, Plan, measure_scaling

    axes, device = _selection(arguments)
    planned = cases(replace(axes, operation=(GRADIENT.name,)))
    kernels = axes.kernel or DEFAULT_KERNELS
    plan = Plan(planned, kernels, "weak" if arguments.weak else "strong", arguments.rounds)
    turn = exclusive_machine(say) if os.environ.get("LOCAL_RANK", "0") == "0" else nullcontext()
    quiet = nullcontext(lambda _: None)
    try:
        with (
            turn,  # the first of this machine takes it for all
            init(device, timeout_s=arguments.timeout) as workers,
            doing() if workers.rank == 0 else quiet as show,
        ):
            path = measure_scaling(workers, plan, arguments.out, show)
    except (WorkerError, ValueError) as error:
        said = f"rank {os.environ['RANK']}: {error}; what was measured is stored"
        raise UserError(said) from error
    if path is not None:
        print(path)
    return 0


def _selection(arguments: argparse.Namespace) -> tuple[Selection, str]:
    """Return what is chosen, and the one device of it."""
    from ...machine.devices import DEVICES
    from ...plan.benchmark import require_present

    axes = Selection.from_args(arguments, GRID)
    if axes.device not in [(name,) for name in DEVICES]:
        raise UserError(f"scaling takes --device {' or '.join(DEVICES)}; got {arguments.device}")
    require_present(axes)
    return axes, axes.device[0]


def _launch(arguments: argparse.Namespace) -> int:
    """Start the workers under torchrun, several times over, and store all that they measure."""
    from ...scaling.records import ScalingRun

    if arguments.workers < 2:
        raise UserError("scaling compares two workers or more with one; got --workers 1")
    _selection(arguments)  # a mistake is said once, and before any worker is started
    start = ["torch.distributed.run", "--standalone", f"--nproc-per-node={arguments.workers}"]
    runs: list[ScalingRun] = []
    for number in range(1, arguments.launches + 1):
        say(f"launch {number} of {arguments.launches}")
        with TemporaryDirectory(prefix="mlr-scaling-") as folder:
            again = ["-m", PACKAGE, *sys.argv[1:], "--out", folder]
            command = [sys.executable, "-m", *start, *again]
            failed = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
            # What a launch that failed has of some cases is kept where there is nothing else.
            runs += [] if failed and runs else ScalingRun.latest(Path(folder))
        if runs:
            path = ScalingRun.joined(runs).store(arguments.out, runs[0].mode)
        if failed:
            return 2
    print(path)
    return 0
