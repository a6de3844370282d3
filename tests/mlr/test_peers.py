"""What others made, under the same oracle; and that what is missing says so."""

from pathlib import Path

import pytest

from bench.plan.benchmark import planned
from bench.plan.selection import Selection
from mlr import KERNELS, Case, Kernel, Problem, check, get_kernel, peers, registry

PEERS = [kernel for kernel in KERNELS.values() if kernel.peer]


@pytest.mark.parametrize("kernel", PEERS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize(("dtype", "m"), [("float64", 33), ("float32", 1_000)])
def test_agrees_with_the_oracle_also_on_other_inputs(kernel: Kernel, dtype: str, m: int) -> None:
    problem = Problem(Case(kernel.operation, "cpu", dtype, m, 6, 3))
    if reason := kernel.unsupported(problem.case):
        pytest.skip(reason)
    call = kernel.bind(problem)
    assert check(kernel, problem, call).reason is None
    problem.resample(99)  # the very same tensors hold other numbers
    assert check(kernel, problem, call).reason is None


@pytest.mark.parametrize(
    "name", ["jax_jit", "scipy_blas", "torch_compile", "torch_compile_nn", "opt_einsum_factored"]
)
def test_what_is_missing_says_how_to_install_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda package: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    for device in ("cpu", "cuda"):
        reason = get_kernel(name).unsupported(
            Case(get_kernel(name).operation, device, "float64", 33, 6, 3)
        )
        assert reason is not None
        assert "install" in reason or "runs on cpu only" in reason


def test_each_case_compiles_a_code_of_its_own() -> None:
    """Torch gives up compiling one code for more than eight shapes, and runs it as it is."""

    def function() -> None:
        raise NotImplementedError

    codes = [function.__code__, *(peers.own_code(function).__code__ for _ in range(2))]
    assert len(set(map(id, codes))) == 3


def test_peers_are_run_where_they_are_named_or_belong() -> None:
    def names(axes: Selection) -> set[str]:
        return {entry.kernel.name for entry in planned(axes)} & {kernel.name for kernel in PEERS}

    assert names(Selection(grid="quick", device=("cpu",))) == set()
    steps = {kernel.name for kernel in PEERS if kernel.operation == "step"}
    assert names(Selection(grid="tall", device=("cpu",))) == steps
    assert names(Selection(grid="full", device=("cpu",))) == {kernel.name for kernel in PEERS}
    assert names(Selection(grid="quick", device=("cpu",), kernel=("numpy_step",))) == {"numpy_step"}
