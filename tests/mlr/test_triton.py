"""The CUDA sweep under Triton's interpreter: what no GPU is needed for, its arithmetic."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from paths import ROOT

from mlr import Case, get_kernel

# Against float64; the tolerance is the rounding of the result, of sums of products near one.
INTERPRETED = """
import torch
from mlr.triton_kernels import one_pass

for name, unit in (("float32", 2**-24), ("float64", 2**-53), ("bfloat16", 2**-9)):
    dtype = getattr(torch, name)
    for m, n, o in ((300, 6, 3), (150, 40, 5), (7, 1, 1)):
        source = torch.Generator().manual_seed(m)
        given = [
            torch.randn(*shape, generator=source, dtype=torch.float64).to(dtype)
            for shape in ((m, n), (m, o), (n, o), (o,))
        ]
        x, y, w, b = (value.double() for value in given)
        rate, residual = 0.2 / (m * o), x @ w + b - y
        expected = w - rate * x.T @ residual, b - rate * residual.sum(0)
        one_pass.bind_step(*given, rate, 1)()
        for found, right in zip(given[2:], expected, strict=True):
            error = ((found.double() - right).abs() / (right.abs() + 1)).max().item()
            assert error < 8 * unit, (name, m, n, o, error)
        again = [value.to(dtype) for value in (x, y, w, b)]
        one_pass.bind_step(*again, rate, 1)()
        assert torch.equal(again[2], given[2])
print("agrees")
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
def test_the_sweep_agrees_with_float64_and_with_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "agrees", done.stderr[-1_000:]


def test_what_is_for_a_gpu_is_refused_on_the_cpu() -> None:
    for name in ("one_pass_triton", "cuda_graph"):
        reason = get_kernel(name).unsupported(Case("step", "cpu", "float32", 33, 6, 3))
        assert reason == f"{name} runs on cuda only"
    wide = get_kernel("one_pass_triton").unsupported(Case("step", "cuda", "float32", 9, 256, 64))
    assert wide is not None
    assert "at most" in wide or "install" in wide


def test_a_machine_without_triton_says_what_is_missing() -> None:
    code = (
        "import sys\nsys.modules['triton'] = None\nfrom mlr import Case, get_kernel\n"
        "case = Case('step', 'cuda', 'float64', 33, 6, 3)\n"
        "print(get_kernel('one_pass_triton').unsupported(case))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "needs triton, which is not installed" in done.stdout, done.stderr[-500:]
