"""The CUDA sweep under Triton's interpreter: what no GPU is needed for, its arithmetic."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from paths import HELPERS, ROOT

from mlr import Case, Problem, check, get_kernel, steps
from mlr.triton_kernels import launch

# Against float64; the tolerance is the rounding of the result, of sums of products near one. Beyond
# the last row lies what would spoil every sum.
INTERPRETED = """
import sys
import torch
from fake_cuda.graphs import record_triton
from mlr.triton_kernels import launch, one_pass

record_triton()  # by which a launch takes half as long

# So that few rows are more than all programs take at once, and few programs more than are added up.
launch.MOST_PROGRAMS, launch.BLOCK_PROGRAMS, one_pass.PARTS = 3, 1, 2

def drawn(*shape):
    buffer = torch.full((shape[0] + 300, *shape[1:]), torch.nan, dtype=dtype)
    value = torch.randn(*shape, generator=source, dtype=torch.float64)
    return buffer[: shape[0]].copy_(value)

def far(found, expected):
    return max(
        ((one.double() - right).abs() / (right.abs() + 1)).max().item()
        for one, right in zip(found, expected, strict=True)
    )

units = {"float64": 2**-53, "float32": 2**-24, "bfloat16": 2**-9}
for names, sizes in (given.split(":") for given in sys.argv[1:]):
    for name in names.split(","):
        dtype = getattr(torch, name)
        for m, n, o in (tuple(map(int, size.split("x"))) for size in sizes.split(",")):
            source = torch.Generator().manual_seed(m)
            x, y, w, b = drawn(m, n), drawn(m, o), drawn(n, o), drawn(o)
            exact_x, exact_y, exact_w, exact_b = (value.double() for value in (x, y, w, b))
            rate, residual = 0.2 / (m * o), exact_x @ exact_w + exact_b - exact_y
            right = exact_w - rate * exact_x.T @ residual, exact_b - rate * residual.sum(0)
            again = w.clone(), b.clone()
            one_pass.bind_step(x, y, w, b, rate, 1)()
            assert far((w, b), right) < 8 * units[name], (name, m, n, o, far((w, b), right))
            one_pass.bind_step(x, y, *again, rate, 1)()
            assert torch.equal(again[0], w) and torch.equal(again[1], b)
            found = one_pass.gradient(x, y / m, 1)
            exact_delta = (y / m).double()
            error = far(found, (exact_x.T @ exact_delta, exact_delta.sum(0)))
            assert error < 8 * units[name], (name, m, n, o, error)
print("agrees")
"""
# One row; rows that a program passes over again; features that do not fill a chunk, in one thread
# and in several; outputs in parts of which the last overlaps; blocks of products.
SIZES = "1x6x3,450x6x3,40x40x5,9x7x20"
MANY_SIZES = f"{SIZES},7x1x1,1100x6x3,20x100x2,70x7x70,3x16x300,9x250x20,200x40x15,100x16x64"


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
@pytest.mark.parametrize(
    "given",
    [
        (f"float32:{SIZES}", "float64,bfloat16:260x6x3"),
        pytest.param(("float64:100x40x15",), marks=pytest.mark.slow),
        *(pytest.param((f"{one}:{MANY_SIZES}",), marks=pytest.mark.slow) for one in launch.DTYPES),
    ],
)
def test_the_sweep_agrees_with_float64_and_with_itself(given: tuple[str, ...]) -> None:
    """Dtypes on sizes, in one process."""
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED, *given],
        cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(HELPERS)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "agrees", done.stderr[-1_000:]


def test_what_is_for_a_gpu_is_refused_on_the_cpu() -> None:
    for name in ("one_pass_triton", "one_pass_triton_gradient", "cuda_graph"):
        kernel = get_kernel(name)
        reason = kernel.unsupported(Case(kernel.operation, "cpu", "float32", 33, 6, 3))
        assert reason == f"{name} runs on cuda only"


@pytest.mark.parametrize("name", ["one_pass_triton", "one_pass_triton_gradient"])
def test_what_registers_do_not_hold_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "needs_triton", lambda case: None)
    kernel = get_kernel(name)
    assert kernel.unsupported(Case(kernel.operation, "cuda", "float32", 9, 6, 3)) is None
    wide = kernel.unsupported(Case(kernel.operation, "cuda", "float32", 9, 1_024, 256))
    assert wide is not None
    assert "at most twice; got 1,024 features and 256 outputs in float32" in wide


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
def test_a_step_is_one_graph_and_begins_where_its_problem_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlr.triton_kernels import one_pass

    def capture(step: Callable[[], None]) -> Callable[[], None]:
        step()
        return lambda: graphs.append(step)

    graphs: list[Callable[[], None]] = []
    monkeypatch.setattr(launch, "processors", lambda device: 1)
    monkeypatch.setattr(steps, "capture", capture)
    monkeypatch.setattr(one_pass, "bind_step", lambda x, y, weight, *_: lambda: weight.add_(1))
    problem = Problem(Case("step", "cpu", "float32", 33, 6, 3))
    call = get_kernel("one_pass_triton").function(problem)
    assert problem.weight.equal(problem.start.weight)
    call()
    assert len(graphs) == 1
    assert problem.weight.equal(problem.start.weight)


def test_the_memory_of_the_sums_is_foretold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "processors", lambda: 1)
    assert launch.workspace("step", 10**6, 6, 3, 8) == 4 * (6 + 1) * 3 * 8 + 8
    assert launch.workspace("gradient", 100, 6, 3, 4) == (6 + 1) * 3 * 4
    assert launch.workspace("gradient", 100, 1_024, 256, 4) == 0


def test_a_machine_without_triton_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    reason = get_kernel("one_pass_triton").unsupported(Case("step", "cuda", "float64", 33, 6, 3))
    assert reason is not None
    assert "needs triton, which is not installed" in reason


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", launch.DTYPES)
@pytest.mark.parametrize("name", ["one_pass_triton", "one_pass_triton_gradient"])
def test_every_layout_agrees_with_the_oracle_on_a_gpu(name: str, dtype: str) -> None:
    kernel = get_kernel(name)
    sizes = [(1, 6, 3), (10**6, 6, 3), (10**5, 16, 8), (10**5, 7, 70), (10**4, 100, 5)]
    sizes += [(10**4, 64, 16), (10**4, 250, 2), (10**4, 1, 512), (3, 16, 300)]
    for size in sizes:
        case = Case(kernel.operation, "cuda", dtype, *size)
        if kernel.unsupported(case) is None:
            problem = Problem(case)
            assert check(kernel, problem, kernel.bind(problem)).reason is None, size


@pytest.mark.cuda
def test_a_call_on_a_gpu_is_the_same_every_time_and_takes_views() -> None:
    gradient = get_kernel("one_pass_triton_gradient")
    problem = Problem(Case("gradient", "cuda", "float32", 10**5, 6, 3))
    first = gradient.bind(problem)()
    again = gradient.bind(problem)()
    assert first.weight.equal(again.weight)
    assert first.bias.equal(again.bias)
    problem.x = torch.cat([problem.x[:1], problem.x])[1:]  # 24 bytes from where a tensor starts
    problem.delta = problem.delta.T.contiguous().T
    view = gradient.bind(problem)()
    assert first.weight.equal(view.weight)
    assert first.bias.equal(view.bias)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_gradient_is_taken_where_its_tensors_lie() -> None:
    problem = Problem(Case("gradient", "cuda:1", "float64", 1_000, 6, 3))
    kernel = get_kernel("one_pass_triton_gradient")
    assert check(kernel, problem, kernel.bind(problem)).reason is None
    assert torch.cuda.current_device() == 0
