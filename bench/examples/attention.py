"""The gradient of scaled dot-product attention, by Q, K and V.

O = PV with P = softmax(S) by rows and S = QKᵀ/√d (Vaswani et al. 2017, Attention Is All You Need),
for every head by itself. Given are Q, K, V and δ = ∂L/∂O; every kernel finds P again.

dO = dP·V + P·dV, so that ∂L/∂V = Pᵀδ and ∂L/∂P = δVᵀ. A row of P = softmax(S) changes by
dP_ij = P_ij (dS_ij − Σ_k P_ik dS_ik), which is symmetric, so that with A = ∂L/∂P
∂L/∂S = P∘(A − rowsum(P∘A)). At last ∂L/∂Q = ∂L/∂S·K/√d and ∂L/∂K = (∂L/∂S)ᵀQ/√d.
(Dao et al. 2022, FlashAttention, appendix B.2.)

Shapes: Q, K, V, δ and the results (1, h, t, d): h heads, of all sequences, of t positions and d
numbers. In the formulas of costs t² numbers are those of S; an exponential counts as one operation.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention

from mlr import kernel, operation

BLOCK_BYTES = 2**18  # of P: an eighth of a second-level cache of 2 MiB

softmax_backward = torch.ops.aten._softmax_backward_data.out


@operation(
    axes={"heads": (4,), "length": (16, 128, 1_024), "head_dim": (64,)},
    least_flops=lambda h, t, d, s: h * (10 * t * t * d + 7 * t * t + 2 * t * d),
    least_bytes=lambda h, t, d, s: s * 7 * h * t * d,
)
class attention_gradient:
    """∂L/∂Q, ∂L/∂K and ∂L/∂V of softmax(QKᵀ/√d)·V, from Q, K, V and δ = ∂L/∂O."""

    def inputs(case, generator):
        """Draw all standard normal."""
        drawn = torch.randn(4, 1, *case.sizes, generator=generator, dtype=torch.float64)
        return dict(zip(("q", "k", "v", "delta"), drawn, strict=True))

    def oracle(q, k, v, delta):
        """Differentiate the definition of O by autograd."""

        def attend(q, k, v):
            return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v

        return torch.func.vjp(attend, q, k, v)[1](delta)


@kernel(
    operation="attention_gradient",
    baseline=True,
    flops=lambda h, t, d, s: h * (14 * t * t * d),
)
def autograd(q, k, v, delta):
    """Run `torch.nn.functional.scaled_dot_product_attention` forward and autograd backward.

    On a processor that is torch's FlashAttention. Autograd has no gradient without the forward
    pass, whose O it computes too; P is found again in the backward pass.
    """
    inputs = tuple(one.detach().requires_grad_() for one in (q, k, v))
    return torch.autograd.grad(scaled_dot_product_attention(*inputs), inputs, delta)


@kernel(
    operation="attention_gradient",
    flops=lambda h, t, d, s: h * (10 * t * t * d + 7 * t * t + 2 * t * d),
    workspace=lambda h, t, d, s: s * h * max(4 * t * t - 2 * t * d, 3 * t * t + t * d),
)
def by_hand(q, k, v, delta):
    """Compute the formula as it stands. Materialises h·t² numbers, four times at once."""
    scale = q.shape[-1] ** -0.5
    q = q * scale
    p = (q @ k.mT).softmax(-1)
    by_p = delta @ v.mT
    by_s = p * (by_p - (p * by_p).sum(-1, keepdim=True))
    return (by_s @ k) * scale, by_s.mT @ q, p.mT @ delta


def block_sizes(h, t, s):
    """Return how many heads, and how many rows of S of each, a block has."""
    return max(1, min(h, BLOCK_BYTES // (t * t * s))), max(1, min(t, BLOCK_BYTES // (t * s)))


@kernel(
    operation="attention_gradient",
    flops=lambda h, t, d, s: h * (10 * t * t * d + 7 * t * t + 2 * t * d),
    devices=("cpu",),
)
def blocked(q, k, v, delta):
    """Take some rows of S at a time, of one head or of some, so that P and ∂L/∂S stay in the cache.

    A row of S is taken whole, so that its softmax is found at once, in place; ∂L/∂K and ∂L/∂V are
    summed over the blocks of a head. Where one block is all it is `by_hand`.
    """
    _, h, t, d = q.shape
    heads, rows = block_sizes(h, t, q.itemsize)
    if (heads, rows) == (h, t):
        return by_hand(q, k, v, delta)
    q, k, v, delta = (one[0] for one in (q, k, v, delta))
    by_q, by_k, by_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    room, scale = q.new_empty(2, heads, rows, t), d**-0.5
    for head in range(0, h, heads):
        own = slice(head, head + heads)
        for row in range(0, t, rows):
            part = own, slice(row, row + rows)
            some_q = q[part] * scale
            p, by_s = room[:, : len(some_q), : some_q.shape[1]]
            torch.softmax(torch.bmm(some_q, k[own].mT, out=p), -1, out=p)
            torch.bmm(delta[part], v[own].mT, out=by_s)
            softmax_backward(by_s, p, -1, q.dtype, grad_input=by_s)
            by_v[own].baddbmm_(p.mT, delta[part])
            by_k[own].baddbmm_(by_s.mT, some_q)
            torch.mul(torch.bmm(by_s, k[own]), scale, out=by_q[part])
    return by_q[None], by_k[None], by_v[None]
