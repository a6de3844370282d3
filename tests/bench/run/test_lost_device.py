"""Kernels that break a device: each is blamed for itself, and the others are still measured."""

import fake_cuda
import pandas as pd
import pytest

from bench.store.runs import find_runs, load_frame

SIZE = ("--batch=33", "--features=3", "--outputs=2")
BREAKING = """
import fake_cuda
import torch
from mlr import Gradient, kernel

costs = dict(
    flops=lambda m, n, o, s: m, bytes_moved=lambda m, n, o, s: m, workspace=lambda m, n, o, s: 0,
    devices=("cuda",),
)

@kernel(operation="gradient", **costs)
def right(x, delta):
    return Gradient(x.T @ delta, delta.sum(0))

@kernel(operation="gradient", **costs)
def reads_beyond_its_input(x, delta):
    fake_cuda.lose_context()

@kernel(operation="gradient", **costs)
def takes_a_terabyte(x, delta):
    torch.empty(2**40, device="cuda", dtype=torch.uint8)

@kernel(operation="step", **costs)
def replays_freed_memory(problem):
    x, y, weight, bias = problem.x.clone(), problem.y, problem.weight, problem.bias
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        residual = torch.addmm(bias, x, weight).sub_(y)
        weight.sub_(x.T @ residual, alpha=2 * problem.lr / y.numel())
    return graph.replay  # which keeps its own memory, but not x
"""
ILLEGAL = ("crashed", fake_cuda.ILLEGAL)
EXPECTED = {
    "right": ("ok", ""),
    "reads_beyond_its_input": ILLEGAL,
    "takes_a_terabyte": ("oom", "CUDA out of memory"),
    "replays_freed_memory": ILLEGAL,
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("broken")
    (folder / "mine.py").write_text(BREAKING)
    chosen = ("--operation=gradient,step", f"--kernel={','.join(EXPECTED)}", *SIZE)
    mine = f"--kernel-file={folder / 'mine.py'}"
    done = fake_cuda.run_module(
        "bench", "run", "--device=cuda", *chosen, mine, "--processes=1", f"--out={folder}"
    )
    assert done.returncode == 1, done.stderr
    return load_frame(find_runs(folder / "runs")).set_index("kernel")


@pytest.mark.slow  # test_plugin has one that loses its device, among others in a run
@pytest.mark.parametrize("kernel", EXPECTED)
def test_each_kernel_answers_for_itself_alone(found: pd.DataFrame, kernel: str) -> None:
    status, reason = EXPECTED[kernel]
    assert found.loc[kernel, "status"] == status, found.loc[kernel, "reason"]
    assert reason in (found.loc[kernel, "reason"] or "")
