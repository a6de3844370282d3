"""Softmax regression: an operation of one's own, its baseline, and a kernel held against it."""
import torch
from torch.nn.functional import cross_entropy

from mlr import kernel, operation

@operation(
    axes={"batch": (64, 4_096), "in_features": (64,), "classes": (10, 1_000)},
    least_flops=lambda m, n, c, s: 4 * m * n * c + 4 * m * c,
    least_bytes=lambda m, n, c, s: s * (m * n + 2 * (n * c + c)) + 8 * m,
)
class softmax_regression:
    """∂L/∂W = Xᵀδ, ∂L/∂b = 1ᵀδ of the mean cross entropy L, with δ = (softmax(XW + b) − Y)/m."""

    def inputs(case, generator):  # Y is one-hot: a kernel gets the labels
        m, n, c = case.sizes
        draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)
        labels = torch.randint(c, (m,), generator=generator)
        return {"x": draw(m, n), "labels": labels, "w": draw(n, c) / n**0.5, "b": draw(c)}

    def oracle(x, labels, w, b):
        probabilities = lambda w, b: (x @ w + b).softmax(1)[torch.arange(len(x)), labels]
        return torch.func.grad(lambda w, b: -probabilities(w, b).log().mean(), argnums=(0, 1))(w, b)

@kernel(operation="softmax_regression", baseline=True)
def autograd(x, labels, w, b):
    w, b = w.detach().requires_grad_(), b.detach().requires_grad_()
    return torch.autograd.grad(cross_entropy(torch.addmm(b, x, w), labels), (w, b))

@kernel(operation="softmax_regression")
def by_hand(x, labels, w, b):
    delta = torch.addmm(b, x, w).softmax(1)
    delta[torch.arange(len(x)), labels] -= 1
    return x.T @ delta / len(x), delta.sum(0) / len(x)
