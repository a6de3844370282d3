"""The Triton kernels compiled for GPUs that are not here: they launch, spill nothing, stay short.

Compiled with the checker of types switched on, as every test is: it must not hide what they name.
"""

import tomllib
from collections.abc import Iterator

import pytest
import torch
from paths import ROOT

pytest.importorskip("triton")

from triton_targets import SHARED_BYTES, Launch, launched_for

from mlr.case import DTYPES, OPERATIONS
from mlr.triton_kernels import launch, one_pass

PROCESSORS = 132  # of an H100
SHORT = 4_000  # operations of a kernel, about half more than the longest has
Target = tuple[str, str, int, int, int]  # operation, dtype, compute capability, n, o


def launches(target: Target) -> list[Launch]:
    """Compile what a call launches, through the very code that launches it."""
    operation, name, capability, n, o = target
    dtype = DTYPES[name]
    x, y = torch.zeros(1, n, dtype=dtype), torch.zeros(1, o, dtype=dtype)
    with launched_for(capability) as launched:
        if operation == "step":
            w, b = torch.zeros(n, o, dtype=dtype), torch.zeros(o, dtype=dtype)
            one_pass.bind_step(x, y, w, b, 0.1, PROCESSORS)()
        else:
            one_pass.compiled_gradient.cache_clear()
            one_pass.gradient(x, y, PROCESSORS)
            one_pass.compiled_gradient.cache_clear()
    return launched


def admitted(operation: str, dtype: str, n: int, o: int) -> bool:
    return launch.layout(operation, n, o, DTYPES[dtype].itemsize) is not None


def grid_targets() -> Iterator[Target]:
    """Every shape of every grid that a kernel takes."""
    found = set()
    for grid in tomllib.loads((ROOT / "bench/plan/grids.toml").read_text()).values():
        for block in grid["block"]:
            for operation in {"gradient", "step"} & {*block.get("operations", OPERATIONS)}:
                for dtype in block["dtypes"]:
                    found |= {(operation, dtype, *size[1:]) for size in block.get("sizes", ())}
    for operation, dtype, n, o in sorted(found):
        if admitted(operation, dtype, n, o):
            yield from ((operation, dtype, one, n, o) for one in SHARED_BYTES)


def border_targets() -> Iterator[Target]:
    """The most outputs that a kernel takes of so many features, up to 512."""
    for operation in ("gradient", "step"):
        for dtype in launch.DTYPES:
            for n in (3, 32, 40, 64, 250, 1_000, 2_048):
                fitting = (o for o in range(512, 0, -1) if admitted(operation, dtype, n, o))
                if most := next(fitting, None):
                    yield operation, dtype, 90, n, most


# Every dtype, every target, and each way of sharing: outputs in parts, rows among threads, blocks.
FEW: list[Target] = [
    *(("step", dtype, 90, 6, 3) for dtype in launch.DTYPES),
    *(("step", "float32", one, 6, 3) for one in (80, 100)),
    *(("gradient", dtype, 90, 6, 3) for dtype in ("float32", "float64")),
    *(("gradient", "float32", 90, n, o) for n, o in [(1, 1), (64, 64)]),
    *(("step", "float64", 90, n, o) for n, o in [(16, 8), (64, 16), (4, 64), (1, 512)]),
    ("step", "float64", 100, 64, 16),
    *((operation, "float32", 90, 100, 5) for operation in ("gradient", "step")),
]
MANY = [*grid_targets(), *border_targets()]


@pytest.mark.parametrize(
    "target",
    [*FEW, *(pytest.param(one, marks=pytest.mark.slow) for one in MANY if one not in FEW)],
    ids=lambda target: "-".join(map(str, target)),
)
def test_what_is_admitted_launches_and_spills_nothing(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "multiplies_blocks", lambda: target[2] < 100)
    launched = launches(target)
    laid_out = launch.layout(target[0], *target[3:], DTYPES[target[1]].itemsize)
    assert laid_out is not None
    assert launched[0].binary.name == ("sweep_blocks" if laid_out.blocks else "sweep")
    for binary, grid, _ in launched:
        assert binary.shared_bytes <= SHARED_BYTES[target[2]]
        assert binary.spilled_bytes == 0, binary.usage
        assert not {"LDL", "STL"} & {one for loop in binary.loops for one in loop}
        assert len(binary.operations) <= SHORT
        registers = -(-binary.usage["REG"] // 8) * 8  # as they are given out
        if binary.name != "finish":
            assert registers * launch.THREADS * laid_out.programs <= 65_536, binary.usage
        assert max(grid[1:]) <= 65_535


@pytest.mark.parametrize("operation", ["gradient", "step"])
def test_a_narrow_row_costs_few_instructions(operation: str) -> None:
    """Memory is to be what a narrow row waits for.

    While an H100 reads the 36 bytes of a row, each of its multiprocessors issues about 11
    instructions, each for the 32 rows of a warp.
    """
    sweep = launches((operation, "float32", 90, 6, 3))[0].binary
    loop = max(sweep.loops, key=lambda loop: loop.count("LDG"))
    loads = 3 + 3  # three of two features, and one for each output
    rows = 32 * loop.count("LDG") / loads
    assert rows >= 32
    assert len(loop) / rows <= 4
    assert not {"BAR", "LDS", "STS", "SHFL", "LDL", "STL"} & {*loop}


def test_a_wide_row_shares_its_threads_through_registers() -> None:
    sweep = launches(("step", "float32", 90, 100, 5))[0].binary
    loop = max(sweep.loops, key=lambda loop: loop.count("LDG"))
    assert not {"BAR", "LDS", "STS", "LDL", "STL"} & {*loop}


@pytest.mark.parametrize(("capability", "blocks"), [((9, 0), True), ((10, 0), False)])
def test_blackwell_multiplies_no_blocks_in_float64(
    capability: tuple[int, int], blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    laid_out = launch.layout("step", 64, 16, 8)
    assert laid_out is not None
    assert laid_out.blocks == blocks


def test_the_rows_and_the_programs_do_not_compile_anew() -> None:
    with launched_for(90) as launched:
        for m in (1, 16, 100_000):
            w, b = torch.zeros(6, 3), torch.zeros(3)
            one_pass.bind_step(torch.zeros(m, 6), torch.zeros(m, 3), w, b, 0.1, PROCESSORS)()
            one_pass.gradient(torch.zeros(m, 6), torch.zeros(m, 3), PROCESSORS)
    assert len({id(one.binary) for one in launched}) == 4
    one_pass.compiled_gradient.cache_clear()


def test_as_many_programs_share_the_rows_as_run_at_once() -> None:
    laid_out = launch.layout("step", 6, 3, 4)
    assert laid_out == launch.Layout(outputs=3, width=2, rows=128, programs=7)
    assert launch.launch_grid(laid_out, 1, 3, PROCESSORS) == (1, 1)
    assert launch.launch_grid(laid_out, 10_000, 3, PROCESSORS) == (1, 79)
    assert launch.launch_grid(laid_out, 10**7, 3, PROCESSORS) == (1, 7 * PROCESSORS)
