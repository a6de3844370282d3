"""Every kernel of a training step: Ŷ = XW + b, δ = 2(Ŷ−Y)/(m·o), W −= η·Xᵀδ, b −= η·1ᵀδ, in place.

A step kernel binds: it takes a `Problem`, does every one-off thing and returns the bare callable.
After k calls the problem's weight and bias equal the oracle's after k steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from . import dispatch
from .case import Gradient, Problem
from .cuda_graphs import capture
from .gradients import kron_einsum, matmul
from .one_pass import bind
from .one_pass.assembly import case_assembly
from .operations import STEP
from .registry import kernel
from .triton_kernels import launch

BLOCK_BYTES = 2**19  # of X: half a second-level cache, the rest is for W and the residual


def sweep_flops(m: int, n: int, o: int, s: int) -> int:
    """Count Ŷ, the residual, both sums over it, and the update, with η in one factor."""
    return 4 * m * n * o + 3 * m * o + 2 * (n * o + o)


def _three_of_m(m: int, o: int, s: int) -> int:
    """Hold the prediction, the residual and δ at once, and two scalars that torch wraps."""
    return 3 * m * o * s + 8 + s


@kernel(
    operation="step",
    flops=lambda m, n, o, s: 4 * m * n * o + 6 * m * o + n * o + o,
    workspace=lambda m, n, o, s: max(_three_of_m(m, o, s), (2 * m * o + n * o + o + 1) * s),
    owns_parameters=True,
    baseline=True,
)
def torch_nn(problem: Problem) -> Callable[[], None]:
    """Step with `nn.Linear`, `nn.MSELoss` and `torch.optim.SGD`; the baseline.

    Materialises the prediction, δ and both gradients. The parameters live in the layer, in its
    layout (o, n); the problem gets views of them.
    """
    x, y = problem.x, problem.y
    layer, loss = problem.linear(), nn.MSELoss()
    optimiser = torch.optim.SGD(layer.parameters(), lr=problem.lr)
    problem.weight, problem.bias = layer.weight.detach().T, layer.bias.detach()

    def step() -> None:
        optimiser.zero_grad()
        loss(layer(x), y).backward()
        optimiser.step()

    return step


@kernel(
    operation="step",
    flops=lambda m, n, o, s: 4 * m * n * o + 5 * m * o + n * o + o,
    workspace=lambda m, n, o, s: max(_three_of_m(m, o, s), (2 * m * o + n * o + o) * s),
)
def matmul_update(problem: Problem) -> Callable[[], None]:
    """Step as the scratch model does, with `matmul` for the gradient.

    Materialises the prediction, the residual and δ, each m·o numbers: what plain tensor
    expressions cost.
    """
    return _plain_update(problem, matmul)


@kernel(
    operation="step",
    flops=lambda m, n, o, s: 2 * m * n * o + 3 * m * n * o * o + 5 * m * o + n * o + o,
    bytes_moved=lambda m, n, o, s: STEP.least_bytes(m, n, o, s) + 2 * m * n * o * o * s,
    workspace=lambda m, n, o, s: max(
        _three_of_m(m, o, s), (2 * m * o + m * n * o * o + max(o * o, n * o + o)) * s
    ),
)
def kron_update(problem: Problem) -> Callable[[], None]:
    """Step as the scratch model does, with `kron_einsum` for the gradient.

    Materialises the Jacobian, m·n·o² numbers, once a step.
    """
    return _plain_update(problem, kron_einsum)


def _plain_update(problem: Problem, gradient: Callable[..., Gradient]) -> Callable[[], None]:
    x, y, weight, bias = problem.x, problem.y, problem.weight, problem.bias
    lr = problem.lr

    def step() -> None:
        y_pred = x @ weight + bias
        delta = 2 * (y_pred - y) / y.numel()
        by_weight, by_bias = gradient(x, delta)
        weight.sub_(by_weight, alpha=lr)
        bias.sub_(by_bias, alpha=lr)

    return step


@kernel(
    operation="step",
    flops=lambda m, n, o, s: 4 * m * n * o + 2 * m * o + n * o + o,
    workspace=lambda m, n, o, s: (m * o + n * o) * s,
)
def fused_addmm(problem: Problem) -> Callable[[], None]:
    """Step in place: `addmm` makes the residual R = XW + b − Y, the one temporary of m·o numbers.

    W −= η'·XᵀR and b −= η'·1ᵀR with η' = 2η/(m·o). The gradient (n·o numbers) is summed by itself
    and then subtracted. Fusing that too, `weight.addmm_(x.T, residual, alpha=-η')`, loses it: for
    narrow shapes BLAS adds row after row straight into W, each addend far below W's last digit (at
    m = 10⁶ in float32 nothing of the step is left; a test shows it). The fastest step without
    compilation where m·o is large.
    """
    x, y, weight, bias = problem.x, problem.y, problem.weight, problem.bias
    rate = 2 * problem.lr / y.numel()

    def step() -> None:
        residual = torch.addmm(bias, x, weight).sub_(y)
        weight.sub_(x.T @ residual, alpha=rate)
        bias.sub_(residual.sum(0), alpha=rate)

    return step


@kernel(
    operation="step",
    flops=sweep_flops,
    workspace=partial(bind.partial_sum_bytes, "step"),
    devices=("cpu",),
    unsupported_reason=bind.outputs_too_few,
    assembly=case_assembly,
)
def one_pass_step(problem: Problem) -> Callable[[], None]:
    """Step in one pass: each row's residual is computed and used for both sums in registers.

    Reads X and Y once and materialises nothing that grows with m: the sums of n·o + o numbers, in
    float64, one set a thread. Where W is wide the residuals of a block of rows stay in the cache
    instead, with a copy of W. The default of `auto_step` on the CPU but for a few outputs of many
    features.
    Compiled for n and o when it is bound; written in LLVM's IR by `mlr.one_pass.codegen`.
    """
    return bind.bind_step(
        problem.x, problem.y, problem.weight, problem.bias, 2 * problem.lr / problem.y.numel()
    )


def _block_rows(m: int, n: int, s: int) -> int:
    """Return how many rows of X fit a block, at least 16."""
    return min(m, max(16, BLOCK_BYTES // (n * s)))


@kernel(
    operation="step",
    flops=lambda m, n, o, s: (
        4 * m * n * o + 2 * m * o + n * o + o + -(-m // _block_rows(m, n, s)) * o
    ),
    workspace=lambda m, n, o, s: (_block_rows(m, n, s) * o + n * o + 2 * o) * s,
    devices=("cpu",),
)
def blocked(problem: Problem) -> Callable[[], None]:
    """Step block by block of rows: a block of X is in the cache still when it is read again.

    As `fused_addmm`, but the residual R = XW + b − Y is that of one block, into one buffer, and
    XᵀR adds up in another: reads X and Y once from memory and allocates nothing. The default of
    `auto_step` where X is larger than the caches and `one_pass_step` does not take the case. For
    a GPU, whose caches hold a hundred such blocks, each would be five launches.
    """
    x, y, weight, bias = problem.x, problem.y, problem.weight, problem.bias
    m, n, o = problem.case.sizes
    rate = 2 * problem.lr / y.numel()
    rows = _block_rows(m, n, problem.case.itemsize)
    residual, by_weight, by_bias = x.new_empty(rows, o), x.new_empty(n, o), x.new_empty(o)
    blocks = [
        (a, a.T, b, residual[: len(a)]) for a, b in zip(x.split(rows), y.split(rows), strict=True)
    ]

    def step() -> None:
        by_weight.zero_()
        by_bias.zero_()
        for a, transposed, b, r in blocks:
            torch.addmm(bias, a, weight, out=r)
            r.sub_(b)
            by_weight.addmm_(transposed, r)
            by_bias.add_(r.sum(0))
        weight.sub_(by_weight, alpha=rate)
        bias.sub_(by_bias, alpha=rate)

    return step


@kernel(
    operation="step",
    flops=lambda m, n, o, s: 4 * m * n * o + 3 * m * o,
    workspace=lambda m, n, o, s: 0,
    delegates_to=dispatch.select_kernel,
)
def auto_step(problem: Problem) -> Callable[[], None]:
    """Step with the kernel that was the fastest on this machine at the nearest size.

    See `mlr.dispatch`. It is chosen when it is bound, so a call is that kernel's own.
    """
    call: Callable[[], None] = dispatch.select_kernel(problem.case).bind(problem)
    return call


@kernel(
    operation="step",
    flops=sweep_flops,
    workspace=partial(launch.workspace, "step"),
    devices=("cuda",),
    dtypes=launch.DTYPES,
    unsupported_reason=launch.unsupported,
)
def one_pass_triton(problem: Problem) -> Callable[[], None]:
    """Step in two launches: programs sweep the rows once, then their sums are added up and used.

    Materialises the sums of each program, independent of m. Both launches are one CUDA graph: a
    call is its replay. The result is the same on every run. For n and o whose sums registers hold.
    Source: `mlr.triton_kernels.one_pass`, Triton.
    """
    from .triton_kernels import one_pass

    x, y, weight, bias = problem.x, problem.y, problem.weight, problem.bias
    rate = 2 * problem.lr / y.numel()
    step = one_pass.bind_step(x, y, weight, bias, rate, launch.processors(x.device))
    call: Callable[[], None] = capture(step)
    problem.reset()
    return call


@kernel(
    operation="step",
    flops=lambda m, n, o, s: 4 * m * n * o + 2 * m * o + n * o + o,
    workspace=lambda m, n, o, s: (m * o + n * o) * s,
    devices=("cuda",),
)
def cuda_graph(problem: Problem) -> Callable[[], None]:
    """Replay `fused_addmm` as a CUDA graph: its launches cost the host one call.

    Materialises what `fused_addmm` does, in a pool of the graph's own. For small m, where launches
    take longer than work. Source: torch.cuda.CUDAGraph, by `mlr.cuda_graphs`.
    """
    call = capture(fused_addmm(problem))
    problem.reset()
    return call
