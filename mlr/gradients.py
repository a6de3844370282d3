"""Every kernel of the gradient: ∂L/∂W = Xᵀδ and ∂L/∂b = 1ᵀδ from X and δ = ∂L/∂Ŷ.

Index legend, the same in equations, shapes and tests:
    p  row of the batch      1 … m
    i  input feature         1 … n
    q  component of Ŷ        1 … o
    j  output feature        1 … o   (Ŷ_pq depends on W_ij only where q = j)

In the formulas m, n, o are the sizes and s the item size in bytes. `flops` counts every product and
sum of the body, two for a multiply-add; `bytes_moved` counts inputs read once, outputs written
once, and whatever the formulation materialises written once and read once; `workspace` is exact
to the byte for the CPU allocator of torch 2.13 (a test holds it).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from . import dispatch
from .case import Gradient
from .one_pass import bind
from .one_pass.assembly import case_assembly
from .operations import GRADIENT
from .registry import kernel
from .triton_kernels import launch

X = Float[Tensor, "m n"]
Delta = Float[Tensor, "m o"]


def _kron(x: Tensor, eye: Tensor) -> Tensor:
    """Return X ⊗ I; torch.kron views its result, which fails for a transposed X (torch 2.13)."""
    return torch.kron(x.contiguous(), eye)


@kernel(
    operation="gradient",
    flops=lambda m, n, o, s: 2 * m * n * o + m * o,
    workspace=lambda m, n, o, s: 0,
)
def matmul(x: X, delta: Delta) -> Gradient:
    """Multiply once: ∂L/∂W = Xᵀδ, ∂L/∂b = Σ_p δ_p.

    Materialises nothing: BLAS reads the transpose as a flag. What the derivation by hand ends in;
    `auto` takes it where `one_pass` does not take the case.
    """
    return Gradient(x.T @ delta, delta.sum(0))


@kernel(
    operation="gradient",
    flops=lambda m, n, o, s: m * n * o * o + 2 * m * n * o * o + m * o,
    bytes_moved=lambda m, n, o, s: GRADIENT.least_bytes(m, n, o, s) + 2 * m * n * o * o * s,
    workspace=lambda m, n, o, s: (m * n * o * o + max(o * o - n * o - o, 0)) * s,
)
def kron_einsum(x: X, delta: Delta) -> Gradient:
    """Contract the whole Jacobian: ∂Ŷ/∂W = I ⊗ X as (m, o, n, o), then Σ_pq δ_pq ∂Ŷ_pq/∂W_ij.

    Materialises m·n·o² numbers of which all but m·n·o are zero; costs o times `matmul` in work and
    memory. The chain rule taken literally: to teach with, not to train with.
    """
    m, n = x.shape
    o = delta.shape[1]
    eye = torch.eye(o, dtype=x.dtype, device=x.device)
    jacobian = _kron(x, eye).reshape(m, o, n, o)
    del eye
    return Gradient(torch.einsum("pq,pqij->ij", delta, jacobian), delta.sum(0))


@kernel(
    operation="gradient",
    flops=lambda m, n, o, s: 3 * m * n * o * o + 2 * m * o * o,
    bytes_moved=lambda m, n, o, s: (
        GRADIENT.least_bytes(m, n, o, s) + (2 * m * n * o * o + 2 * m * o * o) * s
    ),
    workspace=lambda m, n, o, s: (m * n * o * o + m * o * o + o * o) * s,
)
def full_jacobian(x: X, delta: Delta) -> Gradient:
    """Contract both Jacobians: (m, o, n, o) for the weight and (m, o, o) for the bias.

    As `kron_einsum`, with the bias taken the same long way: ∂Ŷ_pq/∂b_j = I_qj, repeated for every
    row. Materialises m·o²·(n + 1) numbers.
    """
    m, n = x.shape
    o = delta.shape[1]
    eye = torch.eye(o, dtype=x.dtype, device=x.device)
    by_weight = _kron(x, eye).reshape(m, o, n, o)
    by_bias = eye.expand(m, o, o).clone(memory_format=torch.contiguous_format)
    return Gradient(
        torch.einsum("pq,pqij->ij", delta, by_weight), torch.einsum("pq,pqj->j", delta, by_bias)
    )


@kernel(
    operation="gradient",
    flops=lambda m, n, o, s: 2 * m * n * o + m * o,
    workspace=lambda m, n, o, s: 0,
)
def einsum(x: X, delta: Delta) -> Gradient:
    """Contract with einsum: ∂L/∂W_ij = Σ_p X_pi δ_pj, ∂L/∂b_j = Σ_p δ_pj.

    `matmul` in index notation: torch turns it into the same product after parsing the equation,
    which costs a few microseconds a call.
    """
    return Gradient(torch.einsum("pi,pj->ij", x, delta), torch.einsum("pj->j", delta))


@kernel(
    operation="gradient",
    flops=lambda m, n, o, s: 2 * m * n * o + 2 * n * o * o + m * o,
    workspace=lambda m, n, o, s: (o * o + n * o - o) * s,
)
def factored_einsum(x: X, delta: Delta) -> Gradient:
    """Contract the factors of the Jacobian: Σ_pq δ_pq X_pi I_qj, without forming I ⊗ X.

    The sum of `kron_einsum` by associativity, (Σ_p δ_pq X_pi) first: m·n·o² numbers become n·o.
    Shows that the Jacobian's price is its materialisation, not the chain rule.
    """
    o = delta.shape[1]
    eye = torch.eye(o, dtype=x.dtype, device=x.device)
    # Two by two: in which order torch contracts three depends on what else is installed.
    return Gradient(
        torch.einsum("iq,qj->ij", torch.einsum("pq,pi->iq", delta, x), eye), delta.sum(0)
    )


@kernel(
    operation="gradient",
    flops=lambda m, n, o, s: 2 * m * n * o + m * o,
    bytes_moved=lambda m, n, o, s: GRADIENT.least_bytes(m, n, o, s) + 2 * m * n * o * s,
    workspace=lambda m, n, o, s: (m * n * o - o) * s,
)
def outer_sum(x: X, delta: Delta) -> Gradient:
    """Sum per-sample gradients: ∂L/∂W = Σ_p x_p ⊗ δ_p, all m outer products held at once.

    Materialises m·n·o numbers. What per-sample methods (clipping, gradient variance) need anyway.
    """
    return Gradient((x[:, :, None] * delta[:, None, :]).sum(0), delta.sum(0))


@kernel(
    operation="gradient",
    flops=lambda m, n, o, s: 4 * m * n * o + m * o,
    workspace=lambda m, n, o, s: (n * o + o + m * o) * s,
)
def func_vjp(x: X, delta: Delta) -> Gradient:
    """Pull δ back with `torch.func.vjp` through W, b ↦ XW + b.

    Evaluates the prediction (m·o numbers) that the pull-back of a linear map does not need, and
    pays for tracing on every call. Source: torch.func (functorch).
    """
    o = delta.shape[1]
    weight, bias = x.new_ones(x.shape[1], o), x.new_ones(o)
    pull_back = torch.func.vjp(lambda w, b: torch.addmm(b, x, w), weight, bias)[1]
    return Gradient(*pull_back(delta))


@kernel(
    operation="gradient",
    flops=lambda m, n, o, s: (
        2 * m * n * o + m * o * (2 * m * n * o + m * o) + 2 * m * o * (n * o + o)
    ),
    bytes_moved=lambda m, n, o, s: (
        GRADIENT.least_bytes(m, n, o, s) + 2 * (m * m * o * o + m * n * o * o + m * o * o) * s
    ),
    workspace=lambda m, n, o, s: (
        (m * n * o * o + m * o * o + max(m * o * (m * o + 1), n * o + o)) * s
    ),
)
def jacrev(x: X, delta: Delta) -> Gradient:
    """Contract the Jacobians that `torch.func.jacrev` builds, one pulled-back row for each Ŷ_pq.

    Besides the Jacobians themselves it materialises the basis of all m·o rows, (m·o)² numbers, so
    it is the first to run out of memory. Source: torch.func (functorch), vmap over vjp.
    """
    o = delta.shape[1]
    weight, bias = x.new_ones(x.shape[1], o), x.new_ones(o)
    by_weight, by_bias = torch.func.jacrev(lambda w, b: torch.addmm(b, x, w), argnums=(0, 1))(
        weight, bias
    )
    return Gradient(
        torch.einsum("pq,pqij->ij", delta, by_weight), torch.einsum("pq,pqj->j", delta, by_bias)
    )


@kernel(
    operation="gradient",
    flops=lambda m, n, o, s: 4 * m * n * o + m * o,
    workspace=lambda m, n, o, s: (n * o + o + m * o) * s,
    baseline=True,
)
def autograd(x: X, delta: Delta) -> Gradient:
    """Run `torch.nn.functional.linear` forward and torch's autograd backward; the baseline.

    The forward pass (m·o numbers) is part of the price: autograd has no gradient without it. The
    weight is in the layout of `torch.nn.Linear`, (o, n); its gradient is returned transposed.
    """
    o = delta.shape[1]
    weight, bias = x.new_ones(o, x.shape[1]), x.new_ones(o)
    weight.requires_grad_()
    bias.requires_grad_()
    by_weight, by_bias = torch.autograd.grad(linear(x, weight, bias), (weight, bias), delta)
    return Gradient(by_weight.T, by_bias)


@kernel(
    operation="gradient",
    flops=lambda m, n, o, s: 2 * m * n * o + m * o,
    workspace=partial(bind.partial_sum_bytes, "gradient"),
    devices=("cpu",),
    unsupported_reason=bind.outputs_too_few,
    assembly=case_assembly,
)
def one_pass(x: X, delta: Delta) -> Gradient:
    """Read each row of X and δ once, and add xᵀδ and δ to sums in registers: compiled for n and o.

    Materialises nothing; several threads hold their sums, in float64, and where W is wide all hold
    them and a block of δ. The first choice but for a few outputs of many features: a product of
    BLAS is made for wide matrices, and takes several times as long for narrow ones. Written in
    LLVM's IR by `mlr.one_pass.codegen`, whose `Source(...).text()` prints it.
    """
    return bind.prepare_gradient(x.shape, delta.shape, x.dtype)(x, delta)


@kernel(
    operation="gradient",
    flops=lambda m, n, o, s: 2 * m * n * o + m * o,
    workspace=partial(launch.workspace, "gradient"),
    devices=("cuda",),
    dtypes=launch.DTYPES,
    unsupported_reason=launch.unsupported,
)
def one_pass_triton_gradient(x: X, delta: Delta) -> Gradient:
    """Read each row of X and δ once on CUDA, and add xᵀδ and δ to sums in registers.

    Materialises the sums of each program, independent of m; a second launch adds them up. The
    result is the same on every run. For narrow X and δ, whose product is the shape that a BLAS is
    made for the least. Source: `mlr.triton_kernels.one_pass`, Triton.
    """
    from .triton_kernels import one_pass

    with torch.cuda.device(x.device):
        found: Gradient = one_pass.gradient(x, delta, launch.processors(x.device))
    return found


@kernel(
    operation="gradient",
    flops=lambda m, n, o, s: 2 * m * n * o + m * o,
    workspace=lambda m, n, o, s: 0,
    delegates_to=dispatch.select_kernel,
)
def auto(x: X, delta: Delta) -> Gradient:
    """Take the kernel that was the fastest on this machine at the nearest size: see `mlr.dispatch`.

    Costs what that kernel costs, and a look into a table. The one to use where sizes vary.
    """
    place = x.is_cpu or x.device  # a device takes longer to look up by than True
    return select_gradient(x.shape, delta.shape, x.dtype, place)(x, delta)


@lru_cache(maxsize=4_096)
def select_gradient(
    x: torch.Size, delta: torch.Size, dtype: torch.dtype, place: torch.device | Literal[True]
) -> Callable[[Tensor, Tensor], Gradient]:
    """Return what `auto` calls for tensors of these shapes, selected once a process for each.

    They are where `place` says: on a device, or True for the CPU.
    """
    device = torch.device("cpu") if place is True else place
    selected = dispatch.select_by_sizes("gradient", device, dtype, *x, delta[1])
    if selected.function is one_pass:
        return bind.prepare_gradient(x, delta, dtype)
    return selected.function
