"""The grids: what a run measures where the command line names no axis of its own."""

from dataclasses import dataclass
from itertools import product

DEFAULT_GRID = "headline"
DOUBLE, BOTH = ("float64",), ("float32", "float64")
Size = tuple[int, int, int]  # rows, input features and output features of a case


@dataclass(frozen=True, slots=True)
class GridBlock:
    """Cases of some operations, or of all where none is named."""

    operations: tuple[str, ...]
    dtypes: tuple[str, ...]
    sizes: tuple[Size, ...]


def _lattice(features: tuple[int, ...], outputs: tuple[int, ...]) -> tuple[Size, ...]:
    return tuple((100, n, o) for n, o in product(features, outputs))


def _steps(layers: tuple[tuple[int, int], ...], batches: tuple[int, ...]) -> GridBlock:
    sizes = tuple((m, n, o) for (n, o), m in product(layers, batches))
    return GridBlock(("step",), BOTH, sizes)


NOTEBOOK = ((33, 6, 3), (100, 6, 3))
TALL = ((1_000, 6, 3), (10_000, 6, 3), (1_000_000, 6, 3))
SMALL_LATTICE = _lattice((4, 16, 64), (2, 8, 32))
MIDDLE = (10_000, 64, 16)  # o² is large and the Jacobian still fits: 1.3 GB in float64
FEWER_ROWS = (1_000, 64, 16)  # than the middle has
MANY_OUTPUTS = (100, 16, 4_096)  # small but for its Jacobian, which would take 215 GB
WIDE = (10_000, 256, 64)  # the Jacobian would take 84 GB in float64
SINGLE = (100, 16, 8)

GRIDS: dict[str, tuple[GridBlock, ...]] = {
    # What a first report should say within minutes: the notebook's size, rows, width, and where
    # the Jacobian ends.
    "headline": (
        GridBlock(
            ("gradient",),
            DOUBLE,
            (NOTEBOOK[1], SINGLE, (100, 64, 32), FEWER_ROWS, TALL[1], WIDE),
        ),
        GridBlock(("step",), DOUBLE, (NOTEBOOK[1], TALL[1], TALL[2], WIDE)),
        GridBlock(("fit",), DOUBLE, (NOTEBOOK[1],)),
    ),
    # The other axes, where the command line gives a size and no grid.
    "single": (GridBlock((), DOUBLE, (SINGLE,)),),
    "smoke": (
        GridBlock(("gradient", "step"), DOUBLE, (NOTEBOOK[0],)),
        GridBlock(("gradient",), DOUBLE, ((100, 16, 16), MANY_OUTPUTS)),
        GridBlock(("step",), DOUBLE, (TALL[0],)),
        GridBlock(("fit",), DOUBLE, (NOTEBOOK[0],)),
    ),
    "quick": (
        GridBlock(("gradient",), DOUBLE, (*NOTEBOOK, *TALL, MIDDLE, WIDE, *SMALL_LATTICE)),
        GridBlock(("step",), DOUBLE, (*NOTEBOOK, *TALL, WIDE)),
        GridBlock(("gradient", "step"), ("float32",), (NOTEBOOK[0], TALL[1])),
        GridBlock(("fit",), DOUBLE, (NOTEBOOK[0], TALL[0])),
    ),
    "full": (
        GridBlock(
            ("gradient", "step"),
            BOTH,
            (
                *(*NOTEBOOK, *TALL, (100_000, 6, 3), FEWER_ROWS, MIDDLE, WIDE),
                *(*_lattice((4, 16, 64, 256), (4, 16, 64)), *SMALL_LATTICE),
            ),
        ),
        GridBlock(("fit",), BOTH, (NOTEBOOK[0], *TALL[:2], FEWER_ROWS)),
    ),
    # Few features: what dispatch and memory cost. Many: what products cost.
    "tall": (_steps(((6, 3), (16, 8), (32, 4)), (33, 100, 1_000, 10_000, 100_000, 1_000_000)),),
    "wide": (_steps(((64, 16), (256, 64), (1_024, 256)), (1_000, 10_000, 100_000)),),
    # Over several workers: sums of 0.2 KiB, 8 KiB and 128 KiB beside little and much of one's own.
    "scaling": (
        GridBlock(
            ("gradient",),
            BOTH,
            (*((m, n, o) for n, o in ((6, 3), (64, 16)) for m in (10_000, 100_000)), WIDE),
        ),
    ),
}

# The built-in kernels of a grid, by operation, where it has not all of them: those that a reader
# asks for first.
FIRST_KERNELS = {
    "headline": {
        "gradient": {"autograd", "matmul", "einsum", "kron_einsum", "one_pass", "auto"},
        "step": {"torch_nn", "fused_addmm", "one_pass_step", "auto_step"}
        | {"one_pass_triton", "cuda_graph"},
    }
}

# Grids that hold what others made beside ours: some of it compiles for seconds in every process.
WITH_PEERS = ("full", "tall", "wide")

# Fresh processes that time each case, where the command line does not say.
PROCESSES = dict.fromkeys(GRIDS, 5) | {"smoke": 2}

# Seconds that one call may take at the very least, by the machine's ceilings, to be attempted.
_SHORT_CALL_S = {"smoke": 0.1, "headline": 0.2, "quick": 0.2, "tall": 0.2}
LONGEST_CALL_S = dict.fromkeys(GRIDS, 5.0) | _SHORT_CALL_S
