"""The operations that come with the suite: right at any size, and as costly as they say."""

import itertools
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import ROOT
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from bench.cli.main import make_parser
from bench.measure.memory import measure_memory
from bench.plan.benchmark import planned
from bench.plan.grid import GRIDS
from bench.plan.selection import Selection
from bench.store.runs import load_run
from mlr import (
    KERNELS,
    OPERATIONS,
    Case,
    Problem,
    baseline_of,
    check,
    check_on_other_inputs,
    get_kernel,
    load_kernels,
)

FILES = GRIDS["examples"].kernel_files
NAMES = {
    "softmax_regression": ("autograd", "by_hand", "blocked", "classes_first"),
    "layer_norm_gradient": ("autograd", "by_hand", "aten", "compiled_loop"),
    "attention_gradient": ("autograd", "by_hand", "blocked"),
}
# The least, odd numbers, and several blocks of which the last is not full. Where a softmax is over
# one number, or a normalisation, the gradient is zero and a relative error means nothing.
SIZES = {
    "softmax_regression": [(4, 3, 5), (7, 5, 3), (200, 3, 2), (300, 17, 1_001), (2_000, 8, 5)],
    "layer_norm_gradient": [(2, 5), (7, 33), (129, 1_001), (2_000, 8)],
    "attention_gradient": [(1, 4, 8), (2, 7, 5), (3, 129, 3), (2, 513, 16)],
}
ALL = [(operation, name) for operation, names in NAMES.items() for name in names]
RUN_SIZES = {
    "softmax_regression": ("--batch=8,64", "--features=8", "--classes=10"),
    "layer_norm_gradient": ("--batch=8,64", "--features=64"),
    "attention_gradient": ("--heads=2", "--length=8,32", "--head-dim=16"),
}
SMALL_BLOCK_BYTES, SMALL_NUMBERS = 2**12, 2**13
FEW_BYTES = 64  # of numbers that torch holds within one of its functions
WRONG = 1e-4  # a relative error that no rounding in float32 explains


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Iterator[None]:
    """Load the files, and forget them again for the tests of other modules."""
    tables: tuple[dict[str, Any], ...] = (KERNELS, OPERATIONS)
    before = [dict(table) for table in tables]
    for path in FILES:
        load_kernels(ROOT / "bench" / path)
    yield
    for table, held in zip(tables, before, strict=True):
        table.clear()
        table.update(held)


def test_each_has_the_kernels_that_it_is_said_to_have() -> None:
    for operation, names in NAMES.items():
        found = [one.name for one in KERNELS.values() if one.operation == operation]
        assert sorted(found) == sorted(names)
        assert baseline_of(operation).name == "autograd"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("operation", "name"), ALL)
def test_every_kernel_is_right(operation: str, name: str, dtype: str) -> None:
    kernel = get_kernel(name, operation)
    for sizes in SIZES[operation]:
        problem = Problem(Case(operation, "cpu", dtype, *sizes))
        call = kernel.bind(problem)
        assert check(kernel, problem, call).reason is None, sizes
        assert check_on_other_inputs(kernel, problem, call, seed=7).reason is None, sizes


@pytest.mark.parametrize("operation", ["softmax_regression", "attention_gradient"])
def test_blocks_of_any_size_give_the_same(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = get_kernel("blocked", operation)
    for block_bytes in (1, 100, SMALL_BLOCK_BYTES):
        monkeypatch.setitem(kernel.function.__globals__, "BLOCK_BYTES", block_bytes)
        for sizes in SIZES[operation]:
            if math.prod(sizes) > SMALL_NUMBERS:  # or rounding adds up over very many blocks
                continue
            problem = Problem(Case(operation, "cpu", "float64", *sizes))
            assert check(kernel, problem, kernel.bind(problem)).reason is None, sizes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("operation", NAMES)
def test_a_small_error_in_any_result_is_found(operation: str, dtype: str) -> None:
    kernel = get_kernel("by_hand", operation)
    problem = Problem(Case(operation, "cpu", dtype, *SIZES[operation][1]))
    right = kernel.bind(problem)
    for wrong in range(len(right())):

        def call(wrong: int = wrong) -> tuple[torch.Tensor, ...]:
            return tuple(
                value * (1 + WRONG) if number == wrong else value
                for number, value in enumerate(right())
            )

        assert not check(kernel, problem, call).ok, wrong


@pytest.mark.parametrize("operation", NAMES)
def test_the_oracle_is_the_gradient_by_differences(operation: str) -> None:
    """Held against neither autograd nor a formula of the file, but against the loss itself."""
    problem = Problem(Case(operation, "cpu", "float64", *SIZES[operation][1]))
    inputs = {name: getattr(problem, name) for name in OPERATIONS[operation].inputs}
    results = OPERATIONS[operation].oracle(problem, 1)
    loss, names = LOSSES[operation]
    for name, found in zip(names, results, strict=True):
        held = inputs.get(name, torch.zeros_like(found))
        direction = torch.randn(held.shape, generator=torch.Generator().manual_seed(1)).double()
        step = 1e-5
        ahead, back = (loss(**inputs | {name: held + side * direction}) for side in (step, -step))
        expected = float((found * direction).sum())
        assert math.isclose((ahead - back) / (2 * step), expected, rel_tol=1e-5, abs_tol=1e-7)


def softmax_loss(x, labels, w, b) -> float:  # type: ignore[no-untyped-def]
    return float(torch.nn.functional.cross_entropy(x @ w + b, labels))


def layer_norm_loss(x, gamma, delta, beta=None) -> float:  # type: ignore[no-untyped-def]
    return float((torch.nn.functional.layer_norm(x, gamma.shape, gamma, beta) * delta).sum())


def attention_loss(q, k, v, delta) -> float:  # type: ignore[no-untyped-def]
    return float((torch.nn.functional.scaled_dot_product_attention(q, k, v) * delta).sum())


LOSSES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "softmax_regression": (softmax_loss, ("w", "b")),
    "layer_norm_gradient": (layer_norm_loss, ("x", "gamma", "beta")),
    "attention_gradient": (attention_loss, ("q", "k", "v")),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("operation", "name"), ALL)
def test_a_declared_peak_is_nearly_the_measured_one(operation: str, name: str, dtype: str) -> None:
    kernel = get_kernel(name, operation)
    for sizes in SIZES[operation]:
        case = Case(operation, "cpu", dtype, *sizes)
        if (predicted := kernel.predicted_peak_bytes(case)) is not None:
            held = measure_memory(kernel, case).peak_bytes
            assert held is not None
            assert 0 <= held - predicted <= FEW_BYTES, sizes


aten = torch.ops.aten
PER_RESULT = {aten.add, aten.sub, aten.mul, aten.div, aten.rsqrt, aten.pow}
PER_INPUT = {aten.sum: 1, aten.mean: 1, aten._softmax: 3, aten.var_mean: 4,
             aten._softmax_backward_data: 4}  # fmt: skip


class Elementwise(TorchDispatchMode):
    """Count the operations of every call that works element by element."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Add what one call counts."""
        result = func(*args, **kwargs or {})
        name = func.overloadpacket
        if name in PER_RESULT:
            self.count += result.numel()
        elif name in PER_INPUT:
            self.count += PER_INPUT[name] * args[0].numel()
        return result


@pytest.mark.parametrize(
    ("operation", "name", "sizes", "products", "once_a_row"),
    [
        ("softmax_regression", "classes_first", (40, 7, 90), 4 * 40 * 7 * 90, 0),
        ("layer_norm_gradient", "by_hand", (40, 300), 0, 10 * 40),
        ("attention_gradient", "by_hand", (3, 50, 8), 3 * 10 * 50 * 50 * 8, 0),
    ],
)
def test_declared_operations_are_the_counted_ones(
    operation: str, name: str, sizes: tuple[int, ...], products: int, once_a_row: int
) -> None:
    kernel, case = get_kernel(name, operation), Case(operation, "cpu", "float64", *sizes)
    call = kernel.bind(Problem(case))
    with FlopCounterMode(display=False) as multiplied, Elementwise() as other:
        call()
    assert multiplied.get_total_flops() == products
    declared = kernel.predicted_flops(case)
    assert declared is not None
    assert declared <= products + other.count <= declared + once_a_row
    assert case.least_flops <= declared


def test_least_bytes_are_those_of_inputs_and_results() -> None:
    for operation, sizes in SIZES.items():
        for dtype in ("float32", "float64"):
            case = Case(operation, "cpu", dtype, *sizes[1])
            problem = Problem(case)
            held = [getattr(problem, name) for name in OPERATIONS[operation].inputs]
            held += get_kernel("by_hand", operation).bind(problem)()
            assert case.least_bytes == sum(one.nbytes for one in held)


def test_the_grid_has_every_kernel_of_every_example() -> None:
    found = planned(chosen("--grid=examples"))
    assert {(one.case.operation, one.kernel.name) for one in found} == {*ALL}
    assert {one.case.dtype for one in found} == {"float32"}
    for operation in NAMES:
        of_it = {one.case.sizes for one in found if one.case.operation == operation}
        assert of_it == {*itertools.product(*OPERATIONS[operation].axes.values())}


def chosen(*arguments: str) -> Selection:
    """Return what a command line selects."""
    given = ["plan", "--device=cpu", *arguments]
    return Selection.from_args(make_parser("plan", given).parse_args(given))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of every example, each at two sizes."""
    out = tmp_path_factory.mktemp("results")
    for operation, sizes in RUN_SIZES.items():
        done = command(
            "run", "--grid=examples", "--device=cpu", f"--operation={operation}", *sizes,
            "--processes=1", f"--out={out}",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    return out


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip


@pytest.mark.slow  # each kernel is held against the oracle above
def test_a_run_of_them_has_no_failure(stored: Path) -> None:
    runs = [load_run(path) for path in (stored / "runs").rglob("*.json")]
    found = [one.extra_info for run in runs for one in run.benchmarks]
    assert {(one.operation, one.kernel) for one in found} == {*ALL}
    assert {one.status for one in found} == {"ok"}
    for one in found:
        assert one.speedup is not None
        assert (one.speedup == 1) == (one.kernel == "autograd")
        assert one.tolerance_of == "baseline"
        assert not [said for said in one.warnings if "formula" in said or "leaks" in said]


@pytest.mark.slow
def test_a_report_shows_each_of_them_and_draws_it(stored: Path) -> None:
    runs = sorted(map(str, (stored / "runs").rglob("*.json")))
    done = command("report", f"--out={stored}", "--format=md,csv", *runs)
    assert done.returncode == 0, done.stderr
    text = (stored / "report" / "REPORT.md").read_text(encoding="utf-8")
    table = (stored / "report" / "results.csv").read_text(encoding="utf-8")
    drawn = " ".join(re.findall(r"!\[(.*?)\]\(", text)).lower()
    for operation, names in NAMES.items():
        assert all(name in table for name in names)
        assert operation in drawn
