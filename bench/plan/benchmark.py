"""Options -> the benchmarks of a plan, what each should cost, whether it can be attempted here."""

import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from types import SimpleNamespace
from typing import Any, NamedTuple

from mlr import KERNELS, OPERATIONS, Case, Kernel

from ..common.errors import UserError, single_line
from ..common.units import format_bytes, format_time
from ..machine.devices import DEVICES, device_of, unavailable_reason
from ..store.schema import Ceilings
from .grid import GRIDS
from .selection import Selection, option_of

FILE = "bench/bench_kernels.py"  # as run files name it, of an installed suite too
MEMORY_SHARE = 0.85  # of what is free; the rest is for the interpreter and the page cache


class Benchmark(NamedTuple):
    """One kernel on one case, with a number of threads."""

    kernel: Kernel
    case: Case
    threads: int = 1

    @property
    def id(self) -> str:
        """Its id in tests and run files: `matmul-cpu-float64-33x6x3`, then `-2threads` if not 1."""
        threads = f"-{self.threads}threads" if self.threads != 1 else ""
        return f"{self.kernel.name}-{self.case.id}{threads}"


def full_name(entry: Benchmark) -> str:
    """Return pytest's id of a benchmark in a checkout, which is its `fullname` in a run file."""
    return f"{FILE}::bench_kernel[{entry.case.operation}-{entry.id}]"


def cases(selection: Selection) -> list[Case]:
    """Return the cases of a grid with its axes replaced, each once, in the grid's order.

    An axis given on the command line takes the place of the grid's own in every block. An operation
    that is wanted and in no block of the grid has the default sizes of its axes, in the dtypes of
    the blocks.
    """
    blocks = GRIDS[selection.grid].block
    of_grid = dict.fromkeys(name for block in blocks for name in block.operations)
    wanted = selection.operation or of_grid
    of_none = [name for name in wanted if name not in of_grid]
    found: dict[Case, None] = {}
    for block in blocks:
        devices = [one for one in selection.device or DEVICES if one in (block.devices or DEVICES)]
        for operation in (*(one for one in block.operations if one in wanted), *of_none):
            of_block = block.sizes if operation in block.operations else ()
            sizes = sizes_of(operation, of_block, selection.sizes)
            for device, dtype, size in product(devices, selection.dtype or block.dtypes, sizes):
                found[Case(operation, device, dtype, *size, seed=selection.seed)] = None
    return list(found)


def sizes_of(
    operation: str, of_block: Sequence[tuple[int, ...]], given: Mapping[str, tuple[int, ...]]
) -> list[tuple[int, ...]]:
    """Return the sizes of an operation: of a block, or of its axes, with those that are given.

    Raises:
        UserError: If a size is given of an axis that the operation has not.
    """
    axes = OPERATIONS[operation].axes
    options = [option_of(axis) for axis in axes]
    if unknown := [option for option in given if option not in options]:
        raise UserError(
            f"a size is of an axis; {operation} has {', '.join(f'--{one}' for one in options)}; "
            f"got --{unknown[0]}: leave it out, or the operation, by --operation"
        )
    return [
        size
        for default in of_block or product(*axes.values())
        for size in product(
            *(given.get(option, (one,)) for option, one in zip(options, default, strict=True))
        )
    ]


def planned(selection: Selection) -> list[Benchmark]:
    """Return every kernel on every case of its operation and device; peers where they belong.

    What is named by the axes is planned in any case, and says what it lacks. Numbers of threads are
    those of the processor: with an accelerator the first of them only is planned.
    """
    counts = selection.threads
    plan = [
        Benchmark(kernel, case, threads)
        for case in cases(selection)
        for threads in (counts if device_of(case.device).is_host else counts[:1])
        for kernel in KERNELS.values()
        if kernel.operation == case.operation and _is_wanted(kernel, case, selection)
    ]
    if not plan:
        raise UserError(
            "the axes must leave a case to measure; got none: a kernel belongs to one operation "
            "only (see --operation and --kernel)"
        )
    return plan


def _is_wanted(kernel: Kernel, case: Case, selection: Selection) -> bool:
    if selection.kernel:
        return kernel.name in selection.kernel
    if case.device not in kernel.devices:
        return False
    # A grid has a dtype for those that take it.
    if kernel.built_in and not selection.dtype and case.dtype not in kernel.dtypes:
        return False
    grid = GRIDS[selection.grid]
    if kernel.built_in and case.operation in grid.kernels:
        return kernel.name in grid.kernels[case.operation]
    return not kernel.peer or grid.peers


class Outcome(SimpleNamespace):
    """What became of a benchmark: what was planned, its status, and what was measured so far.

    Its names are those of a run file's columns, of which `store` alone lists which there are.
    """

    def columns(self) -> dict[str, Any]:
        """Return them as plain JSON."""
        return dict(vars(self))


def predict(
    benchmark: Benchmark,
    ceilings: Ceilings | None = None,
    longest_s: float = math.inf,
    free_bytes: Callable[[str], int] = lambda device: device_of(device).free_bytes(),
) -> Outcome:
    """Predict what a benchmark costs, and whether it can be attempted at all.

    The status is `unsupported` or `infeasible`, each with its reason, or `ok` for one to measure. A
    process that measures nothing itself asks for `free_bytes_of_new_process`.
    """
    kernel, case, threads = benchmark
    refused = kernel.unsupported(case)  # whose formulas need not hold
    try:
        costs = {
            "predicted_peak_bytes": 0 if refused else kernel.predicted_peak_bytes(case),
            "flops": 0 if refused else kernel.predicted_flops(case),
            "bytes_moved": 0 if refused else kernel.predicted_bytes_moved(case),
            **{name: getattr(case, name) for name in ("least_flops", "least_bytes", "input_bytes")},
        }
    except ValueError as error:  # a user's formula gives what is no cost
        raise UserError(single_line(error, 500)) from error
    outcome = Outcome(
        operation=case.operation,
        device=case.device,
        dtype=case.dtype,
        sizes=case.by_axis,
        threads=threads,
        kernel=kernel.name,
        baseline=kernel.baseline,
        role=kernel.role,
        status="ok",
        reason=None,
        iterative=OPERATIONS[case.operation].iterative,
        tolerance_of=OPERATIONS[case.operation].tolerance_of,
        **costs,
        warnings=[],
    )
    if (reason := refused or unavailable_reason(case.device)) is not None:
        outcome.status, outcome.reason = "unsupported", reason
    elif reason := _too_much(case, outcome, free_bytes(case.device), ceilings, longest_s):
        outcome.status, outcome.reason = "infeasible", reason
    return outcome


def _too_much(
    case: Case, outcome: Outcome, free_bytes: int, ceilings: Ceilings | None, longest_s: float
) -> str | None:
    # the kernel's problem and the baseline's, and float64 copies for the oracle
    held, in_call = case.input_bytes or 0, outcome.predicted_peak_bytes or 0
    needed = in_call + 2 * held + 3 * held * 8 // case.itemsize
    usable = MEMORY_SHARE * free_bytes
    if needed > usable:
        return (
            f"needs {format_bytes(needed)}, {format_bytes(in_call)} of it in the call; "
            f"{format_bytes(usable)} may be used"
        )
    least = least_s(ceilings, case.dtype, outcome.flops, outcome.bytes_moved)
    if least > longest_s:
        return f"one call takes at least {format_time(least)}; the grid allows {longest_s:g} s"
    return None


def least_s(
    ceilings: Ceilings | None, dtype: str, flops: int | None, bytes_moved: int | None
) -> float:
    """Return the least seconds of a call by its declared costs; 0 where nothing is known."""
    return ceilings.roofline(dtype, flops or 0, bytes_moved or 0).hot_s if ceilings else 0.0


def was_tried(outcome: Mapping[str, Any]) -> bool:
    """Say whether a benchmark of these columns was attempted, however it ended."""
    return outcome["status"] not in ("infeasible", "unsupported")


def require_tried(outcomes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse the columns of a plan of which nothing was attempted: they make no run."""
    if not any(map(was_tried, outcomes)):
        first = outcomes[0]
        raise UserError(
            f"a run needs a benchmark that can run here; none of {len(outcomes)} can "
            f"({first['kernel']}: {first['reason']}); choose another --device or --dtype, other "
            "sizes or kernels, see `plan`"
        )


def require_present(selection: Selection) -> None:
    """Refuse a device that is not here: measuring the others would be no answer to its name."""
    for device in selection.device or ():
        if (reason := unavailable_reason(device)) is not None:
            raise UserError(
                f"--device takes what can be used here; got {device}: {reason}; leave it out, or "
                "measure where it can be"
            )


def free_bytes_of_new_process(device: str) -> int:
    """Return the memory that a new process finds free on a device, as such a process says.

    One that only plans must hold no context of an accelerator: where one process at a time is let
    in it would shut out those that measure, and elsewhere be one that computes beside them.

    Raises:
        UserError: A new process cannot use the device.
    """
    wanted = device_of(device)
    return wanted.free_bytes() if wanted.is_host else _told_by_new_process(device)


@cache
def _told_by_new_process(device: str) -> int:
    code = "import torch; print(torch.accelerator.get_memory_info()[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        why = single_line(done.stderr.strip().rpartition("\n")[2])
        raise UserError(
            f"a process that measures must be let in by its device; {device} refuses: {why}; see "
            "whether another process holds it"
        )
    return int(done.stdout)
