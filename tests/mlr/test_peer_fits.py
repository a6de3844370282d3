"""Trainings by what others made: the baseline's losses, epoch by epoch, from call to call."""

import pytest

from mlr import KERNELS, Case, Kernel, Problem, check, get_kernel

PEERS = [kernel for kernel in KERNELS.values() if kernel.peer and kernel.operation == "fit"]
SLOW = ("torch_compile_fit",)  # it compiles for seconds


@pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(kernel, marks=pytest.mark.slow if kernel.name in SLOW else (), id=kernel.name)
        for kernel in PEERS
    ],
)
def test_its_losses_are_those_of_torch_nn(kernel: Kernel) -> None:
    for dtype, size, rel in (
        ("float64", (33, 6, 3), 1e-9),
        ("float32", (10, 16, 8), 1e-3),
        ("float64", (7, 5, 1), 1e-9),
    ):
        case = Case("fit", "cpu", dtype, *size)
        if (reason := kernel.unsupported(case)) is not None:
            pytest.skip(reason)
        expected = get_kernel("TorchLinearRegression").bind(Problem(case))()
        problem = Problem(case)
        call = kernel.bind(problem)
        assert check(kernel, problem, call).reason is None, size
        first, again = call(), call()  # each from the start
        assert first == again
        assert len(first) == len(expected)
        for (mse, valid), epoch in zip(first, expected, strict=True):
            assert valid == pytest.approx(epoch.mse_valid, rel=rel)
            if kernel.name != "sklearn_mlp":  # whose mean is one over rows
                assert mse == pytest.approx(epoch.mse, rel=rel)
