"""Measure under torchrun what more workers bring."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from ...common.errors import UserError
from ...common.paths import RESULTS
from ...plan.selection import Selection, add_axes
from ..types import count, duration, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_axes(parser.add_argument, "scaling")
    parser.set_defaults(default_grid="scaling", device="cpu")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--strong", action="store_true", help="the same rows shared (the default)")
    mode.add_argument("--weak", action="store_true", help="as many rows for each worker")
    parser.add_argument("--rounds", type=count, default=30, help="of each slice (default: 30)")
    parser.add_argument("--timeout", type=duration, default=60.0, help="in a sum (default: 60s)")
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling", help="where to")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    import os
    from contextlib import nullcontext

    from ...machine.environment import PINNED_ENV, pinned_environment

    if "RANK" in os.environ and PINNED_ENV.keys() - os.environ.keys():
        again = [sys.executable, "-m", "bench", *sys.argv[1:]]
        # the allocator reads it at start
        os.execve(sys.executable, again, pinned_environment(os.environ))

    from mlr.distributed import WorkerError, init

    from ...machine.devices import DEVICES
    from ...machine.lock import exclusive_machine
    from ...plan.benchmark import cases
    from ...scaling.measure import DEFAULT_KERNELS, Plan, measure_scaling
    from ..console import doing

    axes = Selection.from_args(arguments, arguments.default_grid)
    if axes.device not in [(name,) for name in DEVICES]:
        raise UserError(f"scaling takes --device {' or '.join(DEVICES)}; got {arguments.device}")
    planned = list(cases(replace(axes, operation=("gradient",))))
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # of this machine: it takes the turn for all
    try:
        with (
            exclusive_machine(say) if first else nullcontext(),
            init(axes.device[0], timeout_s=arguments.timeout) as workers,
        ):
            quiet = nullcontext(lambda _: None)
            with doing() if workers.rank == 0 else quiet as show:
                kernels = axes.kernel or DEFAULT_KERNELS
                plan = Plan(
                    planned, kernels, "weak" if arguments.weak else "strong", arguments.rounds
                )
                path = measure_scaling(workers, plan, arguments.out, show)
    except (WorkerError, ValueError) as error:
        rank = os.environ.get("RANK", "0")
        raise UserError(f"rank {rank}: {error}; what was measured is stored") from error
    if path is not None:
        print(path)
    return 0
