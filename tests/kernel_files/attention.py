# attention.py: three axes, and gradients by several tensors
import torch
from torch.nn.functional import scaled_dot_product_attention

from mlr import kernel, operation


def through_autograd(q, k, v, out_grad):
    q, k, v = (value.detach().requires_grad_() for value in (q, k, v))
    return torch.autograd.grad(scaled_dot_product_attention(q, k, v), (q, k, v), out_grad)


@operation(axes={"batch": (4,), "length": (16, 64), "head_size": (8,)})
class attention_backward:
    """∂L/∂Q, ∂L/∂K and ∂L/∂V of softmax(QKᵀ/√h)V, from ∂L/∂O. All tensors (b, n, h)."""

    def inputs(case, generator):
        drawn = torch.randn(4, *case.sizes, generator=generator, dtype=torch.float64)
        return dict(zip(("q", "k", "v", "out_grad"), drawn, strict=True))

    def oracle(q, k, v, out_grad):
        return through_autograd(q, k, v, out_grad)


@kernel(operation="attention_backward", baseline=True)
def autograd(q, k, v, out_grad):
    return through_autograd(q, k, v, out_grad)


@kernel(
    operation="attention_backward",
    flops=lambda b, n, h, s: 10 * b * n * n * h,
    workspace=lambda b, n, h, s: 4 * b * n * n * s,
)
def by_hand(q, k, v, out_grad):
    scale = q.shape[-1] ** -0.5
    weights = (q @ k.mT * scale).softmax(-1)
    by_weights = out_grad @ v.mT
    by_scores = weights * (by_weights - (weights * by_weights).sum(-1, keepdim=True)) * scale
    return by_scores @ k, by_scores.mT @ q, weights.mT @ out_grad
