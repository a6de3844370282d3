"""The compiled sweep: right at every layout, and within its bounds by whatever lies around them."""

import ctypes
import mmap
import os
import re
import sys
from itertools import product
from multiprocessing import get_context
from threading import Thread
from threading import enumerate as running_threads
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from llvmlite import binding as llvm

from bench.measure.memory import measure_memory
from mlr import Case, Gradient, Problem, check, get_kernel, gradients, steps
from mlr.one_pass import bind, fit, threads
from mlr.one_pass import compile as compiler
from mlr.one_pass.codegen import (
    APPLE,
    AVX,
    AVX512,
    BLOCK,
    MAX_PRODUCTS,
    SSE,
    ZEN4,
    FeatureVectorised,
    OutputVectorised,
    RowVectorised,
    Source,
    Target,
    Tiles,
    layout,
)
from mlr.one_pass.threads import run_in_threads

KERNELS = ["one_pass", "one_pass_step"]
# One of each kind of layout, in few features or outputs and in many; the others are a long proof.
CORE = [(1, 1), (6, 3), (40, 1), (31, 3), (3, 33), (47, 5), (16, 32), (130, 9), (67, 100)]
OTHERS = [(1, 3), (5, 2), (2, 1), (16, 8), (32, 4), (17, 9), (64, 16), (256, 64), (9, 130)]
OTHERS += [(1_024, 33)]
SIZES = [*CORE, *(pytest.param(size, marks=pytest.mark.slow) for size in OTHERS)]
ROWS = [1, 2, 3, 7, 8, 9, 15, 16, 17, 33, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5]
LANE_ROWS = [2_047, 2_048, 2_049, 4_111]  # about a block where a vector holds 16 rows


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_every_layout_agrees_with_the_oracle(name: str, dtype: str, size: tuple[int, int]) -> None:
    kernel = get_kernel(name)
    by_rows = isinstance(layout(10**6, *size, dtype, compiler.target()), RowVectorised)
    for m in ROWS + LANE_ROWS * by_rows:
        problem = Problem(Case(kernel.operation, "cpu", dtype, m, *size))
        assert check(kernel, problem, kernel.bind(problem)).reason is None, m


# Apple's vectors are as long as those of SSE, with twice the registers: by day at few sizes.
BY_DAY = {"SSE": (SSE, CORE), "AVX": (AVX, CORE), "Apple": (APPLE, [(6, 3), (16, 32), (130, 9)])}


@pytest.mark.parametrize(
    ("target", "size"),
    [
        pytest.param(target, size, id=f"{name}-{size[0]}x{size[1]}",
                     marks=[] if size in by_day else pytest.mark.slow)
        for name, (target, by_day) in BY_DAY.items() for size in CORE + OTHERS
    ],
)  # fmt: skip
def test_machines_with_narrower_vectors_agree(
    target: Target, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "target", lambda: target)
    for module, name in ((compiler, "compile_kernel"), (bind, "prepare_gradient")):
        monkeypatch.setattr(module, name, getattr(module, name).__wrapped__)
    for name, dtype in zip(KERNELS, ["float32", "float64"], strict=True):
        kernel = get_kernel(name)
        case = Case(kernel.operation, "cpu", dtype, BLOCK + 35, *size)
        if kernel.unsupported(case) is None:
            problem = Problem(case)
            assert check(kernel, problem, kernel.bind(problem)).reason is None, case


@pytest.mark.parametrize("target", [AVX, AVX512, ZEN4], ids=["AVX", "AVX-512", "Zen 4"])
@pytest.mark.parametrize(
    ("n", "o", "dtype"),
    [(16, 2, "float32"), (32, 2, "float64"), (32, 4, "float32"), (31, 3, "float32"),
     (20, 3, "float64"), (22, 5, "float32")],
)  # fmt: skip
def test_features_side_by_side_agree_on_every_target(
    target: Target, n: int, o: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "target", lambda: target)
    monkeypatch.setattr(compiler, "compile_kernel", compiler.compile_kernel.__wrapped__)
    for name, m in product(("one_pass_step", "one_pass_fit"), (1, 7, 8, 9, 41, BLOCK + 35)):
        kernel = get_kernel(name)
        problem = Problem(Case(kernel.operation, "cpu", dtype, m, n, o))
        assert check(kernel, problem, kernel.bind(problem)).reason is None, (name, m)


def test_features_lie_side_by_side_where_outputs_are_few_and_features_many() -> None:
    for n, o, dtype, target, lanes in (
        (32, 4, "float32", AVX512, (16, 16)),
        (32, 4, "float32", ZEN4, (8, 8)),
        (64, 4, "float32", ZEN4, (16, 8)),  # 32 sums of half a vector
        (32, 2, "float64", ZEN4, (4, 4)),
        (22, 5, "float32", ZEN4, (8, 8)),  # padding two features costs less than three outputs
    ):
        found = layout(10**6, n, o, dtype, target)
        assert found == FeatureVectorised(n, o, *lanes), (n, o, dtype)
    for n, o, dtype, operation in (
        (32, 4, "float64", "step"),  # outputs fill half a vector
        (128, 4, "float32", "step"),  # 32 sums
        (40, 1, "float32", "step"),
        (20, 4, "float32", "step"),  # padding four features would cost more than it saves
        (32, 4, "float32", "gradient"),
    ):
        found = layout(10**6, n, o, dtype, ZEN4, operation)
        assert isinstance(found, OutputVectorised), (n, o, dtype)


def test_rows_lie_beside_one_another_where_outputs_would_leave_vectors_empty() -> None:
    for n, o, lanes in ((6, 3, 16), (5, 2, 16), (1, 1, 16), (6, 1, 16)):
        assert layout(10**6, n, o, "float32", AVX512) == RowVectorised(n, o, lanes)
        assert isinstance(
            layout(15, n, o, "float32", AVX512), OutputVectorised
        )  # too few for the lanes
    assert layout(10**6, 6, 3, "float64", AVX512) == RowVectorised(6, 3, 8)
    assert isinstance(layout(10**6, 6, 3, "float64", AVX), OutputVectorised)
    assert isinstance(layout(100, 6, 3, "float64", AVX512, "gradient"), OutputVectorised)
    for n, o, dtype in ((6, 4, "float64"), (32, 4, "float64"), (16, 8, "float32")):
        assert isinstance(layout(10**6, n, o, dtype, AVX512), OutputVectorised)
    assert isinstance(layout(10**6, 6, 3, "float32", AVX), OutputVectorised)  # 16 registers


def test_where_vectors_are_worked_on_in_halves_few_rows_do_not_lie_beside_one_another() -> None:
    for target, kind in ((AVX512, RowVectorised), (ZEN4, OutputVectorised)):
        assert isinstance(layout(127, 6, 3, "float64", target), kind)
        assert isinstance(layout(10**6, 3, 4, "float64", target), kind)
        assert isinstance(layout(128, 6, 3, "float64", target), RowVectorised)
        assert isinstance(layout(127, 6, 2, "float64", target), RowVectorised)  # a quarter


def test_a_gradient_of_many_products_is_in_tiles() -> None:
    for n, o, dtype in ((64, 8, "float64"), (16, 32, "float32")):
        assert isinstance(layout(BLOCK, n, o, dtype, AVX512, "gradient"), Tiles)
        assert isinstance(layout(BLOCK + 1, n, o, dtype, AVX512, "gradient"), OutputVectorised)
        assert isinstance(layout(BLOCK, n, o, dtype, AVX512), OutputVectorised)
    assert isinstance(layout(10**4, 64, 16, "float64", AVX512, "gradient"), Tiles)
    for n, o in ((16, 8), (200, 4)):  # few products, and fewer outputs than a vector has lanes
        assert isinstance(layout(100, n, o, "float64", AVX512, "gradient"), OutputVectorised)


def test_a_loss_is_laid_out_for_itself() -> None:
    """It has no sums to keep: rows lie side by side, and a vector of outputs makes tiles."""
    for n, o, dtype in ((8, 4, "float64"), (16, 8, "float32")):
        assert isinstance(layout(10**4, n, o, dtype, AVX512, "loss"), RowVectorised)
        assert isinstance(layout(10**4, n, o, dtype, AVX512), OutputVectorised)
        assert not isinstance(layout(10**4, n, o, dtype, AVX, "loss"), RowVectorised)
    assert isinstance(layout(10**4, 64, 16, "float32", AVX512, "loss"), Tiles)
    assert isinstance(layout(10**4, 64, 16, "float64", AVX512, "loss"), OutputVectorised)
    assert isinstance(layout(10**4, 16, 8, "float64", AVX512, "loss"), OutputVectorised)


def at_the_edge(values: torch.Tensor) -> torch.Tensor:
    """Return a copy that ends where a page ends that may not be touched."""
    size, page = values.numel() * values.element_size(), mmap.PAGESIZE
    whole = -(-size // page) * page
    room = mmap.mmap(-1, whole + page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(room))
    no_access = 0
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + whole), page, no_access) == 0
    found = torch.frombuffer(room, dtype=values.dtype, count=values.numel(), offset=whole - size)
    return found.view(values.shape).copy_(values)


def sweep_at_the_edge() -> None:
    for dtype, (n, o), m in product((torch.float32, torch.float64), CORE, (1, 7, 9, 33, 513)):
        shapes = (m, n), (m, o), (n, o), (o,)
        x, y, w, b = (at_the_edge(torch.randn(*shape, dtype=dtype)) for shape in shapes)
        expected = w - 0.5 * x.T @ (x @ w + b - y)
        bind.bind_step(x, y, w, b, 0.5)()
        torch.testing.assert_close(w, expected, rtol=1e-2, atol=1e-2)
        gradients.one_pass(x, y)
        fit.bind_epoch(x, y, Gradient(w, b), 0.01, 4)()
        fit.bind_loss(x, y, Gradient(w, b))()


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages by Linux's mprotect")
def test_nothing_behind_the_inputs_is_read() -> None:
    """In a fork, which shares what is compiled: touching such a page ends the process."""
    child = get_context("fork").Process(target=sweep_at_the_edge)
    child.start()
    child.join()
    assert child.exitcode == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_lies_around_the_rows_changes_nothing_and_is_not_changed(dtype: torch.dtype) -> None:
    """NaN before and behind: in a register beside the last row it must not reach a sum."""
    for (n, o), m in product(CORE, (9, 33, 512)):
        around = torch.full((m + 20, n), torch.nan, dtype=dtype)
        behind = torch.full((m + 20, o), torch.nan, dtype=dtype)
        x, delta = around[10:-10], behind[10:-10]
        x.normal_()
        delta.normal_()
        weight, bias = x.new_full((n + 2, o), 7.0), x.new_full((o + 2,), 7.0)
        found = gradients.one_pass(x, delta)
        assert torch.isfinite(found.weight).all()
        assert torch.isfinite(found.bias).all()
        bind.bind_step(x, delta, weight[1:-1], bias[1:-1], 0.1)()
        assert torch.isfinite(weight).all()
        for edge in (weight[0], weight[-1], bias[:1], bias[-1:]):
            assert (edge == 7.0).all()


def test_its_memory_does_not_grow_with_the_rows() -> None:
    for name, dtype in product(KERNELS, ("float32", "float64")):
        kernel = get_kernel(name)
        for m, n, o, most in ((100_000, 6, 3, 1_000), (5_000, 130, 9, 250_000)):
            cases = [Case(kernel.operation, "cpu", dtype, rows, n, o) for rows in (1_000, m)]
            few, many = (measure_memory(kernel, case).peak_bytes for case in cases)
            assert few == many < most, name


@pytest.mark.parametrize("size", [(1_000_000, 6, 3), (50_000, 67, 100)])
def test_sums_in_float32_stay_exact_over_many_rows(size: tuple[int, int, int]) -> None:
    """At a million rows the error is that of rounding the result, and no more than matmul's."""
    problem = Problem(Case("gradient", "cpu", "float32", *size))
    errors = {
        name: check(get_kernel(name), problem, get_kernel(name).bind(problem)).error
        for name in ("one_pass", "matmul")
    }
    assert errors["one_pass"] <= max(errors["matmul"], torch.finfo(torch.float32).eps / 2)


def test_threads_share_the_rows_and_agree_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bind, "PART_FLOPS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    kernel = get_kernel("one_pass_step")
    for n, o in ((6, 3), (130, 9)):
        found = []
        for _ in range(3):
            problem = Problem(Case("step", "cpu", "float64", 1_001, n, o))
            assert bind.thread_count(1_001, n, o) == 3
            assert check(kernel, problem, kernel.bind(problem)).reason is None
            found.append(problem.weight.clone())
        assert all(torch.equal(found[0], other) for other in found)


def test_calls_from_several_threads_at_once_share_no_sums() -> None:
    """The sums of a call lie on the stack of the thread that makes it."""
    inputs = [(torch.randn(5_000, 6), torch.randn(5_000, 3)) for _ in range(4)]
    expected = [gradients.one_pass(*pair) for pair in inputs]
    wrong: list[int] = []

    def repeat(number: int) -> None:
        for _ in range(200):
            found = gradients.one_pass(*inputs[number])
            if not all(map(torch.equal, found, expected[number])):
                wrong.append(number)

    callers = [Thread(target=repeat, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


@pytest.mark.parametrize("name", ["one_pass", "auto"])
def test_a_gradient_is_where_its_inputs_are(name: str) -> None:
    """Whatever device new tensors go to; one shape and dtype after another."""
    gradient = get_kernel(name).function
    for m, dtype in product((33, 34), (torch.float32, torch.float64)):
        x, delta = torch.randn(m, 6, dtype=dtype), torch.randn(m, 3, dtype=dtype)
        with torch.device("meta"):
            found = gradient(x, delta)
        torch.testing.assert_close(found.weight, x.T @ delta)
        torch.testing.assert_close(found.bias, delta.sum(0))


def test_rows_of_one_layout_are_compiled_once() -> None:
    few, some, many = (
        compiler.compile_kernel("step", m, 6, 3, "float32") for m in (9, 1_000, 10**6)
    )
    assert many is some
    by_rows = isinstance(layout(1_000, 6, 3, "float32", compiler.target()), RowVectorised)
    assert (few is not some) == by_rows


def test_its_source_can_be_read() -> None:
    text = Source("step", layout(9, 6, 3, "float64", AVX512), "float64").text()
    for name in ("sweep", "finish", "call"):
        assert f'define void @"{name}_step_float64_6x3_outputs4x1"' in text
    assert compiler.compile_kernel("step", 33, 6, 3, "float64").source.startswith("; ModuleID")


def test_what_would_leave_vectors_empty_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiler, "target", lambda: AVX512)
    reason = get_kernel("one_pass").unsupported(Case("gradient", "cpu", "float64", 10, 2_000, 3))
    assert reason is not None
    assert f"above {MAX_PRODUCTS:,} outputs fill at least half a vector of 8; got" in reason
    for o in (4, 1_000):
        taken = Case("gradient", "cpu", "float64", 10, 2_000, o)
        assert get_kernel("one_pass").unsupported(taken) is None


def test_blocks_of_rows_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "BLOCK_BYTES", 1_000)
    kernel = get_kernel("blocked")
    for dtype, m in product(("float32", "float64"), (1, 15, 16, 17, 100, 1_001)):
        problem = Problem(Case("step", "cpu", dtype, m, 6, 3))
        assert check(kernel, problem, kernel.bind(problem)).reason is None, m
        case = problem.case
        assert measure_memory(kernel, case).peak_bytes == kernel.predicted_peak_bytes(case)


@pytest.mark.parametrize("operation", ["gradient", "step", "train", "loss", "losses"])
def test_no_loop_takes_more_of_the_stack(operation: str) -> None:
    """A training of a million mini-batches would end with all of it."""
    sizes = [(6, 3), (32, 3), (40, 1), (16, 32)]
    for (n, o), dtype in product(sizes, ("float32", "float64")):
        source = Source(operation, layout(10**4, n, o, dtype, AVX512, operation), dtype)
        for function in llvm.parse_assembly(source.text()).functions:
            later = {one.opcode for block in [*function.blocks][1:] for one in block.instructions}
            assert "alloca" not in later, (n, o, dtype)


def test_rows_are_asked_for_ahead_and_wide_ones_where_they_are_read_twice() -> None:
    for dtype, size, operation, asked in (
        ("float64", (6, 3), "step", 6 + 3),  # eight rows, 384 bytes of X and 192 of Y
        ("float64", (32, 4), "step", 32 + 4),  # eight rows, 2,048 bytes of X and 256 of Y
        ("float64", (32, 4), "gradient", 4),
        ("float64", (40, 1), "step", 1),  # two rows, which no shuffle spreads over outputs
    ):
        text = Source(operation, layout(9, *size, dtype, AVX512, operation), dtype).text()
        assert text.count('call void @"llvm.prefetch.p0"') == asked


def test_wide_rows_are_not_all_asked_for_at_once() -> None:
    text = Source("step", layout(1_000, 64, 16, "float64", AVX512), "float64").text()
    calls = re.findall(r"call void @\"llvm.(prefetch)|call .*@\"llvm.(fmuladd)", text)
    kinds = "".join("p" if asked else "m" for asked, _ in calls)
    assert kinds.count("p") == 4 * (8 + 2)  # rows, and the lines of each
    assert "pp" not in kinds


def test_sums_of_a_wide_weight_are_asked_for_while_rows_are_added_up() -> None:
    for dtype, asked in (("float32", 48), ("float64", 24)):  # lines of six features' float64 sums
        laid_out = layout(1_000, 1_026, 256, dtype, AVX512)
        text = Source("step", laid_out, dtype).text()
        (loop,) = (one for one in re.split(r"^body", text, flags=re.M) if "llvm.prefetch" in one)
        assert len(re.findall(r" = call .*fmuladd", loop)) == laid_out.held
        (mask,) = re.findall(r" = and i64 .*, (\d+)", loop)
        assert asked <= int(mask) + 1 < 2 * asked


@pytest.mark.parametrize("target", [SSE, AVX, AVX512])
def test_no_row_of_a_whole_block_goes_by_itself(target: Target) -> None:
    for n, o, dtype in product((64, 1_000, 10_000), (9, 40, 256), ("float32", "float64")):
        laid_out = Tiles.of(n, o, dtype, target)
        for tile in laid_out.tiles:
            assert laid_out.block % tile.at_once == 0
            assert laid_out.block >= tile.at_once


def test_calls_in_threads_may_come_from_several_threads_and_a_fork() -> None:
    seen: list[int] = []
    callers = [
        Thread(target=run_in_threads, args=(seen.append, 10 * k, [10 * k + 1])) for k in range(8)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(seen) == sorted(10 * k + part for k in range(8) for part in (0, 1))
    if sys.platform == "linux":
        child = get_context("fork").Process(target=run_in_threads, args=(seen.append, 8, [9]))
        child.start()
        child.join(20)
        assert child.exitcode == 0


@pytest.mark.parametrize("when", ["handing over the parts", "its own part", "waiting for others"])
def test_an_interrupt_leaves_no_part_to_the_next_call(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def helper_count() -> int:
        return sum(isinstance(thread, threads._Helper) for thread in running_threads())

    run_in_threads(seen.append, 0, [1, 2])
    helpers, before = threads._helpers(os.getpid(), 2)[1], helper_count()
    own: Any = seen.append
    if when == "handing over the parts":
        monkeypatch.setattr(helpers[1], "start_call", interrupt)
    elif when == "waiting for others":
        monkeypatch.setattr(helpers[1], "done", SimpleNamespace(acquire=interrupt, release=int))
    else:

        def own(address: int) -> None:
            seen.append(address) if address != 3 else interrupt()

    with pytest.raises(KeyboardInterrupt):
        run_in_threads(own, 3, [4, 5])
    assert helper_count() == before  # none is left at work
    seen.clear()
    run_in_threads(seen.append, 6, [7, 8])
    assert sorted(seen) == [6, 7, 8]


def test_parts_sum_up_in_cache_lines_of_their_own() -> None:
    for n, o, dtype in product((1, 6, 31, 130), (1, 3, 9), ("float32", "float64")):
        for operation, target in product(("step", "gradient"), (AVX, APPLE)):
            doubles = layout(10**6, n, o, dtype, target).doubles(operation)
            assert doubles * 8 % target.cache_line == 0
