"""Options -> the benchmarks of a plan: every kernel on every case of its operation and device."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from mlr import KERNELS, OPERATIONS, Case, Kernel

from ..common.errors import UserError
from ..machine.devices import DEVICES, unavailable_reason
from .grid import GRIDS, WITH_PEERS
from .selection import Selection


class Benchmark(NamedTuple):
    """One kernel on one case."""

    kernel: Kernel
    case: Case

    @property
    def id(self) -> str:
        """Its id in tests, run files and legends: `matmul-cpu-float64-33x6x3`."""
        return f"{self.kernel.name}-{self.case.id}"


def full_name(entry: Benchmark) -> str:
    """Return pytest's id of a benchmark, which is its `fullname` in a run file."""
    return f"bench/bench_kernels.py::bench_kernel[{entry.case.operation}-{entry.id}]"


def cases(selection: Selection) -> dict[Case, frozenset[str] | None]:
    """Return the cases of a grid with its axes replaced, each once, in the grid's order.

    An axis given on the command line takes the place of the grid's own in every block. With each
    case come the kernels that its blocks name; None where one names none.
    """
    found: dict[Case, frozenset[str] | None] = {}
    wanted = selection.operation or OPERATIONS
    rows, features, outputs = selection.batch, selection.features, selection.outputs
    for block in GRIDS[selection.grid]:
        sizes = [
            size
            for m, n, o in block.sizes
            for size in product(rows or [m], features or [n], outputs or [o])
        ]
        for operation, device, dtype, size in product(
            [one for one in block.operations or OPERATIONS if one in wanted],
            selection.device or DEVICES,
            selection.dtype or block.dtypes,
            sizes,
        ):
            case = Case(operation, device, dtype, *size, seed=selection.seed)
            others, own = found.get(case, frozenset()), block.kernels
            found[case] = None if others is None or own is None else others | own
    return found


def planned(selection: Selection) -> list[Benchmark]:
    """Return every kernel on every case of its operation and device; peers where they belong.

    What is named by the axes is planned in any case, and says what it lacks.
    """
    plan = [
        Benchmark(kernel, case)
        for case, named in cases(selection).items()
        for kernel in KERNELS.values()
        if kernel.operation == case.operation and _is_wanted(kernel, case, named, selection)
    ]
    if not plan:
        raise UserError(
            "the axes must leave a case to measure; got none: a kernel belongs to one operation "
            "only (see --operation and --kernel)"
        )
    return plan


def _is_wanted(
    kernel: Kernel, case: Case, named: frozenset[str] | None, selection: Selection
) -> bool:
    if selection.kernel:
        return kernel.name in selection.kernel
    if case.device not in kernel.devices:
        return False
    if named is not None and kernel.built_in:
        return kernel.name in named
    return not kernel.peer or selection.grid in WITH_PEERS


def require_supported(plan: Sequence[Benchmark]) -> None:
    """Refuse a plan of which nothing can run here."""
    reasons = [kernel.unsupported(case) or unavailable_reason(case.device) for kernel, case in plan]
    if None not in reasons:
        raise UserError(
            f"a run needs a benchmark that this machine can take; of {len(plan)} planned it can "
            f"take none ({reasons[0]}); choose another --device, --dtype or --kernel"
        )
