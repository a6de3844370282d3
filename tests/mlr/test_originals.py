"""What a kernel's file may not replace, and what a library may."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import bench.measure.timing
import mlr
from bench.machine.devices import DEVICES
from bench.plan.selection import Selection
from mlr import KERNELS, OPERATIONS, KernelFileError, load_kernels
from mlr.originals import ReplacedError, nothing_replaced

GRADIENT = OPERATIONS["gradient"]
KERNEL = """
import mlr

@mlr.kernel(operation="gradient", flops=lambda m, n, o, s: 1, workspace=lambda m, n, o, s: 0)
def of_a_file(x, delta):
    return mlr.Gradient(x.T @ delta, delta.sum(0))
"""


def other(*_: Any) -> Any:
    return 0


def put_code() -> None:
    bench.measure.timing.repeats_of.__code__ = (lambda seconds, batch_s: 1).__code__


def put_default() -> None:
    bench.measure.timing.warm_up.__defaults__ = (5.0,)


def put(owner: Any, name: str) -> Callable[[], None]:
    return lambda: object.__setattr__(owner, name, other)


REPLACED: dict[str, Callable[[], None]] = {
    "time.perf_counter": lambda: setattr(time, "perf_counter", other),
    "torch.equal": lambda: setattr(torch, "equal", other),
    "torch.allclose": lambda: setattr(torch, "allclose", other),
    "torch.isfinite": lambda: setattr(torch, "isfinite", torch.nn.functional.relu),
    "torch.nn.functional.mse_loss": lambda: setattr(torch.nn.functional, "mse_loss", other),
    "torch.Tensor.equal": lambda: setattr(torch.Tensor, "equal", other),
    "torch.Tensor.__matmul__": lambda: setattr(torch.Tensor, "__matmul__", other),
    "torch.Tensor.max": lambda: setattr(torch.Tensor, "max", other),
    "torch.nn.modules.linear.Linear.forward": lambda: setattr(torch.nn.Linear, "forward", other),
    "mlr.oracle.tolerance": lambda: setattr(mlr.oracle, "tolerance", other),
    "mlr.oracle.min": lambda: setattr(mlr.oracle, "min", other),
    "mlr.oracle.MOST_LOST": lambda: setattr(mlr.oracle, "MOST_LOST", 1),
    "bench.measure.timing.repeats_of": put_code,
    "mlr.case.Problem.resample": lambda: setattr(mlr.Problem, "resample", other),
    "mlr.declaration.OPERATIONS.gradient": lambda: OPERATIONS.update(gradient=OPERATIONS["step"]),
    "mlr.declaration.OPERATIONS['gradient'].oracle": put(GRADIENT, "oracle"),
    "mlr.registry.KERNELS['autograd'].function": put(KERNELS["autograd"], "function"),
    "bench.measure.timing.wall_clock": lambda: setattr(bench.measure.timing, "wall_clock", other),
    "bench.measure.timing.warm_up": put_default,
    "bench.machine.devices.DEVICES['cpu'].clock": put(DEVICES["cpu"], "clock"),
}


@pytest.mark.parametrize("name", REPLACED)
def test_what_is_replaced_is_named_and_put_back(name: str) -> None:
    with pytest.raises(ReplacedError, match=r"^replaces ") as raised, nothing_replaced():
        REPLACED[name]()
    if "[" in name:  # the table is in several modules, and the first of them is named
        assert name.partition("[")[2] in str(raised.value)
    elif "OPERATIONS" not in name:
        assert f"replaces {name}," in str(raised.value)
    with nothing_replaced():  # all is as it was
        pass
    x = torch.ones(3, 2)
    assert x.equal(x.clone())
    assert (x.T @ x).max() == 3
    assert time.perf_counter() > 0
    assert DEVICES["cpu"].clock() > 0
    assert OPERATIONS["gradient"] is GRADIENT
    assert mlr.check(KERNELS["matmul"], *bound("matmul")).ok


def bound(name: str) -> tuple[mlr.Problem, Callable[[], Any]]:
    problem = mlr.Problem(mlr.Case("gradient", "cpu", "float64", 7, 3, 2))
    return problem, KERNELS[name].bind(problem)


def test_it_is_said_even_where_the_kernel_fails_after_it() -> None:
    def fail() -> None:
        torch.equal = other
        raise RuntimeError("too late")

    with pytest.raises(ReplacedError, match=r"torch\.equal"), nothing_replaced():
        fail()


def test_a_default_dtype_is_a_setting_and_replaces_nothing() -> None:
    """Though torch then calls another class its storage."""
    with nothing_replaced():
        torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(torch.float32)
    before = torch.Storage
    with pytest.raises(ReplacedError, match=r"torch\.Storage"), nothing_replaced():
        torch.Storage = other
    assert torch.Storage is before


def test_what_a_library_does_on_first_use_is_its_own() -> None:
    layer = torch.nn.Linear(3, 2)
    with nothing_replaced():
        torch.optim.SGD(layer.parameters(), lr=0.1).step()  # torch wraps it on first use
        torch.manual_seed(0)
        mlr.KERNELS["of_nobody"] = mlr.KERNELS["matmul"]  # a table may grow
        vars(mlr.peers)["__compiled_fn_1"] = other  # as torch.compile does, in a kernel's module
    del mlr.KERNELS["of_nobody"], vars(mlr.peers)["__compiled_fn_1"]


def test_a_kernel_file_that_replaces_something_is_refused_in_one_line(tmp_path: Path) -> None:
    path, before = tmp_path / "mine.py", torch.equal
    path.write_text(f"{KERNEL}\nimport torch\ntorch.equal = lambda a, b: True\n")
    with pytest.raises(KernelFileError) as raised:
        load_kernels(path)
    assert str(raised.value).startswith(f"{path} replaces torch.equal, which is not the kernel's")
    assert "\n" not in str(raised.value)
    assert torch.equal is before
    assert "of_a_file" not in KERNELS


def test_so_is_one_that_replaces_a_clock_of_the_harness(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.cli.main import main

    path = tmp_path / "mine.py"
    path.write_text(f"{KERNEL}\nimport bench.measure.timing as t\nt.wall_clock = lambda: 0.0\n")
    try:
        assert main(["plan", f"--kernel-file={path}"]) == 2
    finally:
        KERNELS.pop("of_a_file", None)
    error = capsys.readouterr().err
    assert f"{path} replaces bench.measure.timing.wall_clock" in error
    assert error.count("\n") == 1
    assert bench.measure.timing.wall_clock is not None
    assert Selection  # the harness goes on
