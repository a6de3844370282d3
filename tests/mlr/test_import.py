"""What an import loads: torch, and nothing that only some programs need."""

import json
import subprocess
import sys

import pytest
from paths import ROOT

# What kernels of some kind, or of other libraries, load at their first use.
PEERS = ("jax", "sklearn", "triton", "scipy", "pandas", "matplotlib")
COMPILERS = ("llvmlite.binding", "torch._dynamo", "torch._inductor", "sympy")
OTHERS = ("mlr.distributed", "mlr.triton_kernels.one_pass", "mlr.__main__")


# Done one after another in a fresh process, and what is not loaded from its start until then.
STEPS: dict[str, tuple[str, ...]] = {
    "import mlr": (*PEERS, *COMPILERS, *OTHERS),
    "mlr.get_kernel('matmul')": (*PEERS, *COMPILERS, *OTHERS),
    "import bench.run.plugin": (*PEERS, "torch._dynamo", "torch._inductor"),
    "import bench.cli.commands.gate": ("matplotlib", "scipy.stats", "bench.experiments"),
}


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """The modules that the process has after each step."""
    after = (f"{step}; found[{step!r}] = [*sys.modules]" for step in STEPS)
    code = "; ".join(["import json, sys; found = {}", *after, "print(json.dumps(found))"])
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {step: {*names} for step, names in json.loads(done.stdout).items()}


@pytest.mark.parametrize("step", STEPS)
def test_what_is_not_needed_is_not_loaded(step: str, loaded: dict[str, set[str]]) -> None:
    assert "torch" in loaded[step]
    assert not loaded[step].intersection(STEPS[step])
