"""What a plain import loads: torch, and nothing that only some programs need."""

import subprocess
import sys

import pytest
from paths import ROOT

# What kernels of some kind, or of other libraries, load at their first use.
PEERS = ("jax", "sklearn", "triton", "scipy", "pandas", "matplotlib")
COMPILERS = ("llvmlite.binding", "torch._dynamo", "torch._inductor", "sympy")
OTHERS = ("mlr.distributed", "mlr.triton_kernels.one_pass", "mlr.__main__")


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh process has after some code."""
    code += "; import sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {*done.stdout.split()}


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import mlr", (*PEERS, *COMPILERS, *OTHERS)),
        ("import mlr; mlr.get_kernel('matmul')", (*PEERS, *COMPILERS, *OTHERS)),
        ("import bench.run.plugin", (*PEERS, "torch._dynamo", "torch._inductor")),
    ],
)
def test_what_is_not_needed_is_not_loaded(code: str, absent: tuple[str, ...]) -> None:
    loaded = loaded_by(code)
    assert "torch" in loaded
    assert not loaded.intersection(absent)
