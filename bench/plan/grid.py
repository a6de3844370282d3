"""Which cases a run measures: grids, and their axes replaced from the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from mlr import KERNELS, Case, Kernel, KernelFileError, load_installed, load_kernels
from mlr.case import STAGES

from ..common.errors import UserError
from ..machine.info import absent
from .selection import AXES, DEFAULT_GRID, names, sizes

DEVICES = ("cpu", "cuda")
BUILT_IN = frozenset(KERNELS)  # before a file or a package of a user's adds to them


class Size(NamedTuple):
    """The sizes of a case."""

    batch: int
    in_features: int
    out_features: int


@dataclass(frozen=True, slots=True)
class Block:
    """Cases of some stages and dtypes at the same sizes; of all kernels, or of some."""

    stages: tuple[str, ...]
    dtypes: tuple[str, ...]
    sizes: tuple[Size, ...]
    kernels: frozenset[str] | None = None


class Planned(NamedTuple):
    """One kernel on one case."""

    kernel: Kernel
    case: Case

    @property
    def id(self) -> str:
        """Its id in tests, run files and legends: `matmul-cpu-float64-33x6x3`."""
        return f"{self.kernel.name}-{self.case.id}"


def full_name(entry: Planned) -> str:
    """Return pytest's id of a planned case, which is its `fullname` in a run file."""
    stage = entry.case.stage
    return f"bench/bench_{stage}.py::bench_{stage}[{entry.id}]"


def _lattice(batch: int, features: tuple[int, ...], outputs: tuple[int, ...]) -> tuple[Size, ...]:
    return tuple(Size(batch, n, o) for n, o in product(features, outputs))


def _steps(layers: tuple[tuple[int, int], ...], batches: tuple[int, ...]) -> Block:
    sizes = tuple(Size(m, n, o) for (n, o), m in product(layers, batches))
    return Block(("step",), ("float32", "float64"), sizes)


NOTEBOOK = (Size(33, 6, 3), Size(100, 6, 3))
TALL = (Size(1_000, 6, 3), Size(10_000, 6, 3), Size(1_000_000, 6, 3))
MIDDLE = Size(10_000, 64, 16)  # o² is large and the Jacobian still fits: 1.3 GB in float64
MANY_OUTPUTS = Size(100, 16, 4_096)  # small but for its Jacobian, which would take 215 GB
WIDE = Size(10_000, 256, 64)  # the Jacobian would take 84 GB in float64
SINGLE = Size(100, 16, 8)

GRIDS: dict[str, tuple[Block, ...]] = {
    # What a first report should say within minutes: the notebook's size, rows, width, and where
    # the Jacobian ends; by the kernels that a reader asks for first.
    "headline": (
        Block(
            ("gradient",),
            ("float64",),
            (NOTEBOOK[1], SINGLE, Size(100, 64, 32), Size(1_000, 64, 16), TALL[1], WIDE),
            frozenset({"autograd", "matmul", "einsum", "kron_einsum", "one_pass", "auto"}),
        ),
        Block(
            ("step",),
            ("float64",),
            (NOTEBOOK[1], TALL[1], TALL[2], WIDE),
            frozenset(
                {"torch_nn", "fused_addmm", "one_pass_step", "auto_step"}
                | {"one_pass_triton", "cuda_graph"}
            ),
        ),
        Block(("fit",), ("float64",), (NOTEBOOK[1],)),
    ),
    # The other axes, where the command line gives a size and no grid.
    "single": (Block(STAGES, ("float64",), (SINGLE,)),),
    "smoke": (
        Block(("gradient", "step"), ("float64",), (NOTEBOOK[0],)),
        Block(("gradient",), ("float64",), (Size(100, 16, 16), MANY_OUTPUTS)),
        Block(("step",), ("float64",), (TALL[0],)),
        Block(("fit",), ("float64",), (NOTEBOOK[0],)),
    ),
    "quick": (
        Block(("gradient",), ("float64",), (*NOTEBOOK, *TALL, MIDDLE, WIDE)),
        Block(("gradient",), ("float64",), _lattice(100, (4, 16, 64), (2, 8, 32))),
        Block(("step",), ("float64",), (*NOTEBOOK, *TALL, WIDE)),
        Block(("gradient", "step"), ("float32",), (NOTEBOOK[0], TALL[1])),
        Block(("fit",), ("float64",), (NOTEBOOK[0], Size(1_000, 6, 3))),
    ),
    "full": (
        Block(
            ("gradient", "step"),
            ("float32", "float64"),
            (*NOTEBOOK, *TALL, Size(100_000, 6, 3), Size(1_000, 64, 16), MIDDLE, WIDE),
        ),
        Block(
            ("gradient", "step"),
            ("float32", "float64"),
            (
                *_lattice(100, (4, 16, 64, 256), (4, 16, 64)),
                *_lattice(100, (4, 16, 64), (2, 8, 32)),
            ),
        ),
        Block(
            ("fit",),
            ("float32", "float64"),
            (NOTEBOOK[0], Size(1_000, 6, 3), Size(10_000, 6, 3), Size(1_000, 64, 16)),
        ),
    ),
    # Few features: what dispatch and memory cost. Many: what products cost.
    "tall": (_steps(((6, 3), (16, 8), (32, 4)), (33, 100, 1_000, 10_000, 100_000, 1_000_000)),),
    "wide": (_steps(((64, 16), (256, 64), (1_024, 256)), (1_000, 10_000, 100_000)),),
    # Over several workers: sums of 0.2 KiB, 8 KiB and 128 KiB beside little and much of one's own.
    "scale": (
        Block(
            ("gradient",),
            ("float32", "float64"),
            (*(Size(m, n, o) for n, o in ((6, 3), (64, 16)) for m in (10_000, 100_000)), WIDE),
        ),
    ),
}

# Grids that hold what others made beside ours: some of it compiles for seconds in every process.
WITH_PEERS = ("full", "tall", "wide")

# Fresh processes that time each case, where the command line does not say.
PASSES = {name: 2 if name == "smoke" else 5 for name in GRIDS}

# Seconds that one call may take at the very least, by the machine's ceilings, to be attempted.
LONGEST_CALL_S = dict.fromkeys(GRIDS, 5.0) | {
    "smoke": 0.1,
    "headline": 0.2,
    "quick": 0.2,
    "tall": 0.2,
}


@dataclass(frozen=True, slots=True)
class Axes:
    """What the command line puts in place of a grid's axes; None leaves the grid's own."""

    grid: str = DEFAULT_GRID
    stage: tuple[str, ...] | None = None
    kernel: tuple[str, ...] | None = None
    device: tuple[str, ...] | None = None
    dtype: tuple[str, ...] | None = None
    batch: tuple[int, ...] | None = None
    features: tuple[int, ...] | None = None
    outputs: tuple[int, ...] | None = None
    kernel_file: str | None = None
    seed: int = 0

    @classmethod
    def parse(cls, option: Callable[[str], Any], grid: str = DEFAULT_GRID) -> Axes:
        """Read the options by name and check them all.

        Args:
            option: Returns the value of an option.
            grid: What is measured where neither a grid nor a size is given.

        Raises:
            UserError: For an unknown grid, kernel, stage, device or dtype, or a range that is none.
        """
        raw = {axis.name: option(axis.name) for axis in AXES}
        sizes_given = any(raw[name] is not None for name in ("batch", "features", "outputs"))
        raw["grid"] = raw["grid"] or ("single" if sizes_given else grid)
        if raw["grid"] not in GRIDS:
            raise UserError(f"--grid is one of {', '.join(GRIDS)}; got {raw['grid']!r}")
        _load(raw["kernel_file"])
        dtypes = dict.fromkeys(dtype for kernel in KERNELS.values() for dtype in kernel.dtypes)
        for name, valid in (("stage", STAGES), ("kernel", sorted(KERNELS)), ("dtype", dtypes)):
            raw[name] = names(raw[name], f"--{name}", tuple(valid))
        raw["device"] = names(raw["device"], "--device", DEVICES) or tuple(
            device for device in DEVICES if absent(device) is None
        )
        for name in ("batch", "features", "outputs"):
            raw[name] = sizes(raw[name], f"--{name}")
        return cls(**raw)


def _load(kernel_file: str | None) -> None:
    try:
        load_installed()
        if kernel_file is not None:
            load_kernels(kernel_file)
    except KernelFileError as error:
        raise UserError(str(error)) from error


def cases(axes: Axes) -> list[Case]:
    """Return the cases of a grid with its axes replaced, each once, in the grid's order.

    An axis given on the command line takes the place of the grid's own in every block.
    """
    return list(_cases(axes))


def _cases(axes: Axes) -> dict[Case, frozenset[str] | None]:
    """Return the cases, each with the kernels that its blocks name; None where one names none."""
    found: dict[Case, frozenset[str] | None] = {}
    for block in GRIDS[axes.grid]:
        wanted = [stage for stage in block.stages if axes.stage is None or stage in axes.stage]
        for stage, device, dtype, size in product(
            wanted,
            axes.device or DEVICES,
            axes.dtype or block.dtypes,
            _replaced(block.sizes, axes),
        ):
            case = Case(stage, device, dtype, *size, seed=axes.seed)
            others, own = found.get(case, frozenset()), block.kernels
            found[case] = None if others is None or own is None else others | own
    return found


def _replaced(block_sizes: tuple[Size, ...], axes: Axes) -> list[Size]:
    given = {
        "batch": axes.batch,
        "in_features": axes.features,
        "out_features": axes.outputs,
    }
    result = list(block_sizes)
    for field, values in given.items():
        if values is not None:
            result = [size._replace(**{field: value}) for size in result for value in values]
    return list(dict.fromkeys(result))


def planned(axes: Axes) -> list[Planned]:
    """Return every kernel on every case of its stage and device; peers where they belong.

    What is named by the axes is planned in any case, and says what it lacks.

    Raises:
        UserError: If the axes leave nothing to measure.
    """
    plan = [
        Planned(kernel, case)
        for case, named in _cases(axes).items()
        for kernel in KERNELS.values()
        if kernel.stage == case.stage and _is_wanted(kernel, case, named, axes)
    ]
    if not plan:
        raise UserError(
            "the axes must leave a case to measure; got none: a kernel belongs to one stage only "
            "(see --stage and --kernel)"
        )
    return plan


def _is_wanted(kernel: Kernel, case: Case, named: frozenset[str] | None, axes: Axes) -> bool:
    """Say whether a grid has a kernel on a case; a user's own is in every grid."""
    if axes.kernel:
        return kernel.name in axes.kernel
    if case.device not in kernel.devices:
        return False
    if named is not None and kernel.name in BUILT_IN:
        return kernel.name in named
    return not kernel.peer or axes.grid in WITH_PEERS


def require_supported(plan: Sequence[Planned]) -> None:
    """Refuse a plan of which nothing can run here.

    Raises:
        UserError: No kernel takes its case, or its device is absent; with the first reason.
    """
    reasons = [kernel.unsupported(case) or absent(case.device) for kernel, case in plan]
    if None not in reasons:
        raise UserError(
            f"a run needs a benchmark that this machine can take; of {len(plan)} planned it can "
            f"take none ({reasons[0]}); choose another --device, --dtype or --kernel"
        )
