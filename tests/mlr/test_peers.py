"""What others made (under the oracle in test_oracle): when it is run, and what is missing."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.plan.benchmark import planned
from bench.plan.selection import Selection
from mlr import KERNELS, Case, Kernel, get_kernel, peers, registry

PEERS = [kernel for kernel in KERNELS.values() if kernel.peer]


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


ON_A_GPU = Case("step", "cuda", "float64", 33, 6, 3)
LAUNCHED_BY_TRITON = [
    get_kernel(name) for name in ("torch_compile", "torch_compile_nn", "one_pass_triton")
]


@pytest.mark.parametrize("kernel", LAUNCHED_BY_TRITON, ids=lambda kernel: kernel.name)
def test_what_triton_builds_its_launchers_with_is_asked_for(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda package: package)
    monkeypatch.setattr(registry.sysconfig, "get_path", lambda *_: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for compiler, named in ((None, "gcc or clang"), ("icx", "icx")):
        monkeypatch.delenv("CC", raising=False)
        if compiler is not None:
            monkeypatch.setenv("CC", compiler)
        reason = kernel.unsupported(ON_A_GPU)
        assert reason == f"Triton needs a C compiler, and {named} is not there: install gcc"
    (tmp_path / "icx").touch(mode=0o755)
    reason = kernel.unsupported(ON_A_GPU)
    assert reason == f"Triton needs {tmp_path}/Python.h, which is not there: install python3-dev"
    (tmp_path / "Python.h").touch()
    assert kernel.unsupported(ON_A_GPU) is None


def test_jax_without_support_for_a_gpu_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {"jax"}
    monkeypatch.setattr(registry, "find_spec", lambda package: package in there or None)
    kernel = get_kernel("jax_jit")
    assert kernel.unsupported(replace(ON_A_GPU, device="cpu")) is None
    for device in ("cuda", "cuda:1"):
        reason = kernel.unsupported(replace(ON_A_GPU, device=device))
        assert reason is not None
        assert reason.endswith("not installed: python -m pip install 'jax[cuda13]'")
    for plugin in ("jax_cuda12_plugin", "jax_cuda13_plugin"):
        there = {"jax", plugin}
        assert kernel.unsupported(ON_A_GPU) is None


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
