"""The sweeps compiled by LLVM for processors that are not here: what their inner loops hold."""

import re
from dataclasses import replace
from itertools import product

import pytest
from cpu_targets import PROCESSORS, compile_for

from mlr.one_pass.assembly import count_instructions
from mlr.one_pass.codegen import (
    APPLE,
    AVX,
    AVX512,
    NEON,
    SSE,
    ZEN4,
    FeatureVectorised,
    Layout,
    OutputVectorised,
    RowVectorised,
    Source,
    Target,
    Tiles,
    layout,
)
from mlr.one_pass.codegen.writer import WITH_LOSS

OPERATIONS = ("gradient", "step", "train", "loss")
# The notebook's shape, the narrowest, one of each kind of layout, and the borders between them.
FEW = [(1, 1), (6, 3)]
MANY = [
    (16, 8),
    (129, 9),
    (14, 1),
    (1, 8),
    (32, 32),
    (33, 31),
    (256, 64),
    (40, 130),
    (1_024, 33),
    (2_000, 16),
]
V4 = "x86-64-v4"
# By rows of 6 → 3, in both loops: of 32 registers 21 or 22 hold sums and nine a row, and constants
# of shuffles take their place in turn. With W on the stack too it was 91.
MOST_OF_STACK = 60
LIKE_N1 = "neoverse-v1"  # but for the order of instructions
CASES = [
    pytest.param(name, size, marks=() if size in FEW and name != LIKE_N1 else pytest.mark.slow)
    for name, size in product(PROCESSORS, FEW + MANY)
]
# What a loop needs of the registers beside sums and residuals, by what the layout leaves to LLVM.
SPARE = {"gradient": 1, "step": 11}


def multiply_adds(laid_out: Layout, operation: str) -> int:
    """Return how many the inner loops have: of rows that go together, and of single ones."""
    products = (operation != "gradient") + (operation != "loss")
    squares = operation in WITH_LOSS
    if isinstance(laid_out, OutputVectorised):
        residuals = laid_out.groups * laid_out.vectors * (operation != "gradient")
        lanes = laid_out.feature_lanes
        sums = laid_out.o * -(-laid_out.n // lanes) if lanes else laid_out.groups * laid_out.vectors
        per_row = residuals + sums * (operation != "loss") + squares * laid_out.vectors
        return (laid_out.rows + 1) * per_row
    if isinstance(laid_out, FeatureVectorised):  # each number of XW begins with a multiplication
        per_row = laid_out.o * (laid_out.product_groups - 1 + laid_out.groups)
        return (laid_out.rows + 1) * per_row
    if isinstance(laid_out, RowVectorised):  # of the rows that fill a vector alone
        return products * laid_out.n * laid_out.o + squares * laid_out.o
    return sum(
        tile.vectors
        * (
            (tile.at_once + 1) * (operation != "gradient")
            + (tile.at_once * (laid_out.n >= tile.at_once) + laid_out.n % tile.at_once)
            * (operation != "loss")
        )
        for tile in laid_out.tiles
    )


def most_loads(laid_out: OutputVectorised, operation: str) -> int:
    """Return how many loads the inner loops need: W and sums for all rows, X and Y for each."""
    n, o, vectors = laid_out.n, laid_out.o, laid_out.vectors
    step, sums, squares = operation != "gradient", operation != "loss", operation in WITH_LOSS
    of_weight = laid_out.groups * vectors
    shared = (step + sums) * (of_weight + vectors) + squares * vectors
    of_row = (step + sums) * of_weight * laid_out.features_per_vector
    copied = step * o  # a row of W, which is padded before the first row
    return 2 * shared + (laid_out.rows + 1) * (of_row + o) + copied + n


def fits(laid_out: OutputVectorised, operation: str, target: Target) -> bool:
    """Say whether all sums and residuals fit in registers, beside what the loop loads."""
    sums = (laid_out.groups + 1) * laid_out.vectors
    return sums + laid_out.rows * laid_out.vectors + SPARE[operation] <= target.registers


@pytest.mark.parametrize(
    ("name", "size"),
    CASES,
    ids=lambda value: value if isinstance(value, str) else "x".join(map(str, value)),
)
def test_inner_loops_hold_what_the_layout_says(name: str, size: tuple[int, int]) -> None:
    """No call in their place, all multiply-adds, and no more loads; tiles never leave registers."""
    target = PROCESSORS[name].target
    for dtype, operation, m in product(("float32", "float64"), OPERATIONS, (10, 10_000)):
        laid_out = layout(m, *size, dtype, target, operation)
        loops = compile_for(name, Source(operation, laid_out, dtype).text())
        told = (dtype, operation, m, laid_out)
        assert loops.calls == 0, told
        found = count_instructions(loops.code)
        done = found.loop_multiply_adds
        if name == "x86-64-v2":  # it has but multiplications and additions
            done = len(re.findall(r"^\s+mul[ps][sd]\s", loops.code, re.MULTILINE))
        assert done >= multiply_adds(laid_out, operation), told
        if isinstance(laid_out, OutputVectorised):
            assert done == multiply_adds(laid_out, operation), told
            assert found.loop_loads <= most_loads(laid_out, operation), told
            if operation in SPARE and fits(laid_out, operation, target):
                assert loops.spills == 0, told
        if isinstance(laid_out, Tiles):
            assert loops.spills == 0, told


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("operation", ["step", "train"])
def test_w_is_read_where_it_lies_and_sums_stay_in_registers(operation: str, dtype: str) -> None:
    """Of 16 → 8 the loops touch no stack and store nothing."""
    laid_out = OutputVectorised.of(16, 8, dtype, AVX512)
    found = count_instructions(compile_for(V4, Source(operation, laid_out, dtype).text()).code)
    assert (found.loop_stack_accesses, found.loop_stores) == (0, 0)


@pytest.mark.parametrize(("size", "dtype"), [((31, 3), "float64"), ((47, 5), "float32")], ids=str)
def test_sums_with_features_side_by_side_stay_in_registers(
    size: tuple[int, int], dtype: str
) -> None:
    """Only residuals are stored, of rows together and alone, and before them W, padded."""
    laid_out = OutputVectorised.of(*size, dtype, AVX512)
    assert laid_out.feature_lanes
    loops = compile_for(V4, Source("step", laid_out, dtype).text())
    assert loops.spills == 0
    assert count_instructions(loops.code).loop_stores == laid_out.rows + 1 + 2
    given = Source("gradient", OutputVectorised.of(*size, dtype, AVX512, "gradient"), dtype)
    assert count_instructions(compile_for(V4, given.text()).code).loop_stores == 0


@pytest.mark.parametrize("size", [(31, 3), pytest.param((64, 16), marks=pytest.mark.slow)], ids=str)
def test_what_registers_cannot_hold_is_left_in_memory(size: tuple[int, int]) -> None:
    """Each sum is loaded and stored once for the rows that go together, and nothing is spilled.

    Had the target registers without end in the layout's opinion, LLVM would have to spill them.
    """
    laid_out = OutputVectorised.of(*size, "float64", AVX512)
    usual, crowded = (
        compile_for(V4, Source("step", replace(laid_out, registers=many), "float64").text())
        for many in (laid_out.registers, 10_000)
    )
    assert usual.spills == 0 < crowded.spills
    found = count_instructions(usual.code)
    assert found.loop_loads <= most_loads(laid_out, "step")
    vectors = (laid_out.groups + 1) * laid_out.vectors  # of sums
    copied = laid_out.vectors * (laid_out.weight_sums != laid_out.n * laid_out.o)  # a row of W
    assert found.loop_stores <= 2 * (vectors + copied)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_side_by_side_take_w_with_the_multiply_add(dtype: str) -> None:
    """From memory into all lanes: neither a register nor the stack holds it."""
    laid_out = RowVectorised.of(100, 6, 3, dtype, AVX512)
    assert laid_out is not None
    for operation in ("step", "train"):
        loops = compile_for(V4, Source(operation, laid_out, dtype).text())
        of_all_lanes = re.findall(r"v(?:fn?m|mul)\w+\s.*\{1to\d+\}", loops.code)
        assert len(of_all_lanes) == 2 * 6 * 3  # of whole vectors of rows, and of the last rows
        assert count_instructions(loops.code).loop_stack_accesses <= MOST_OF_STACK


def test_sums_of_features_side_by_side_leave_the_stack_to_w_and_residuals() -> None:
    """W of each pair of rows, and of each row its residuals; no sum is stored."""
    laid_out = FeatureVectorised.of(32, 4, "float32", ZEN4)
    assert laid_out is not None
    found = count_instructions(compile_for(V4, Source("step", laid_out, "float32").text()).code)
    of_weight = (laid_out.rows // 2 + 1) * laid_out.o * laid_out.product_groups
    of_rows = (laid_out.rows + 1) * laid_out.o
    assert found.loop_multiply_adds == multiply_adds(laid_out, "step")
    assert found.loop_stack_accesses <= of_weight + 2 * of_rows
    assert found.loop_stores <= of_rows


@pytest.mark.parametrize("name", PROCESSORS)
def test_what_leaves_the_registers_is_seen(name: str) -> None:
    crowded = OutputVectorised(6, 3, 1, 3, 1, rows=32)
    assert compile_for(name, Source("step", crowded, "float32").text()).spills > 16


def test_a_processor_is_known_by_its_features() -> None:
    x86, linux, apple = "x86_64-pc-linux-gnu", "aarch64-unknown-linux-gnu", "arm64-apple-darwin24"
    assert Target.of(x86, {"sse4.2": True, "avx": False}) == SSE
    assert Target.of(x86, {"avx": True, "avx2": True, "avx512f": False}) == AVX
    assert Target.of(x86, {"avx": True, "avx512f": True}) == AVX512
    assert Target.of(linux, {"neon": True}) == NEON
    assert Target.of(apple, {"neon": True}) == APPLE


@pytest.mark.parametrize("name", PROCESSORS)
def test_room_and_requests_go_by_the_cache_line(name: str) -> None:
    """Two threads' sums share no line, and no line of narrow rows is asked for twice."""
    target = PROCESSORS[name].target
    laid_out = OutputVectorised.of(6, 3, "float64", target)
    text = Source("step", laid_out, "float64").text()
    lines = text.count('call void @"llvm.prefetch.p0"')
    rows = laid_out.rows * (6 + 3) * 8
    assert rows <= lines * target.cache_line < rows + 2 * target.cache_line
    for each in (laid_out, Tiles.of(256, 64, "float64", target)):
        assert each.doubles("step") * 8 % target.cache_line == 0


def test_wide_gradients_leave_sums_to_tiles_where_registers_are_few() -> None:
    """On AVX2 tiles take half the time from 64 vectors of sums on; on AVX-512 from as many."""
    for target, size, dtype in (
        (AVX, (32, 8), "float64"),
        (AVX, (32, 16), "float32"),
        (AVX512, (32, 16), "float64"),
    ):
        assert isinstance(layout(10_000, *size, dtype, target, "gradient"), Tiles)
    for target, size, dtype in ((AVX, (16, 8), "float64"), (AVX512, (32, 16), "float32")):
        assert isinstance(layout(10_000, *size, dtype, target, "gradient"), OutputVectorised)
