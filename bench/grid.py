"""Which cases a run measures: grids, and their axes replaced from the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from bench.axes import AXES, names, sizes
from bench.errors import UserError
from mlr import KERNELS, Case, Kernel, KernelFileError, load_installed, load_kernels
from mlr.case import DTYPES, STAGES


class Size(NamedTuple):
    """The sizes of a case."""

    batch: int
    in_features: int
    out_features: int


@dataclass(frozen=True, slots=True)
class Block:
    """Cases of some stages and dtypes at the same sizes."""

    stages: tuple[str, ...]
    dtypes: tuple[str, ...]
    sizes: tuple[Size, ...]


class Planned(NamedTuple):
    """One kernel on one case."""

    kernel: Kernel
    case: Case

    @property
    def id(self) -> str:
        """Its id in tests, run files and legends: `matmul-cpu-float64-33x6x3`."""
        return f"{self.kernel.name}-{self.case.id}"


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

GRIDS: dict[str, tuple[Block, ...]] = {
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
PASSES = {"smoke": 2, "quick": 5, "full": 5, "tall": 5, "wide": 5, "scale": 5}

# Seconds that one call may take at the very least, by the machine's ceilings, to be attempted.
LONGEST_CALL_S = {"smoke": 0.1, "quick": 0.2, "full": 5.0, "tall": 0.2, "wide": 5.0, "scale": 5.0}


@dataclass(frozen=True, slots=True)
class Axes:
    """What the command line puts in place of a grid's axes; None leaves the grid's own."""

    grid: str = "quick"
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
    def parse(cls, option: Callable[[str], Any]) -> Axes:
        """Read the options by name and check them all.

        Raises:
            UserError: For an unknown grid, kernel, stage, device or dtype, or a range that is none.
        """
        raw = {axis.name: option(axis.name) for axis in AXES}
        if raw["grid"] not in GRIDS:
            raise UserError(f"--grid is one of {', '.join(GRIDS)}; got {raw['grid']!r}")
        _load(raw["kernel_file"])
        for name, valid in (("stage", STAGES), ("kernel", sorted(KERNELS)), ("dtype", DTYPES)):
            raw[name] = names(raw[name], f"--{name}", tuple(valid))
        raw["device"] = names(raw["device"], "--device", ("cpu", "cuda"))
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
    found: dict[Case, None] = {}
    for block in GRIDS[axes.grid]:
        wanted = [stage for stage in block.stages if axes.stage is None or stage in axes.stage]
        devices = axes.device or ("cpu", "cuda")
        for stage, device, dtype, size in product(
            wanted, devices, axes.dtype or block.dtypes, _replaced(block.sizes, axes)
        ):
            found[Case(stage, device, dtype, *size, seed=axes.seed)] = None
    return list(found)


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
    chosen = [
        k
        for k in KERNELS.values()
        if (k.name in axes.kernel if axes.kernel else not k.peer or axes.grid in WITH_PEERS)
    ]
    plan = [
        Planned(k, case)
        for case in cases(axes)
        for k in chosen
        if k.stage == case.stage and (axes.kernel or case.device in k.devices)
    ]
    if not plan:
        raise UserError(
            "the axes must leave a case to measure; got none: a kernel belongs to one stage only "
            "(see --stage and --kernel)"
        )
    return plan
