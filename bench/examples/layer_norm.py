"""The gradient of layer normalisation, by X, γ and β.

Y = x̂∘γ + β by rows, with x̂ = (x − μ)·r, μ = mean(x), r = (mean((x − μ)²) + ε)^(−1/2). Given are X,
γ and δ = ∂L/∂Y; every kernel finds μ and r of each row again. β enters no gradient.

∂L/∂β = Σ_p δ_p and ∂L/∂γ = Σ_p δ_p∘x̂_p. Let g = δ∘γ = ∂L/∂x̂ of one row. From dμ = mean(dx) and
dr = −r³ mean((x − μ)·dx) = −r² mean(x̂·dx) follows dx̂ = r·(dx − mean(dx) − x̂·mean(x̂·dx)). This map
of dx is symmetric, so that ∂L/∂x = r·(g − mean(g) − x̂·mean(x̂·g)).
(Y: Ba, Kiros and Hinton 2016, Layer Normalization.)

Shapes: X, δ, ∂L/∂X (m, n); γ, ∂L/∂γ, ∂L/∂β (n). Operations are counted by element of X: 4 for μ,
x − μ and r, 1 for x̂, 1 for g, 3 for its two means, 4 for ∂L/∂X, 3 for ∂L/∂γ and ∂L/∂β; what is done
once for a row is left out.
"""

import torch
from torch.nn.functional import layer_norm

from mlr import kernel, operation

EPSILON = 1e-5  # torch's default

moments_and_normal = torch.ops.aten.native_layer_norm.default
backward = torch.ops.aten.native_layer_norm_backward.default


@operation(
    axes={"batch": (16, 512, 8_192), "features": (64, 1_024)},
    least_flops=lambda m, n, s: 16 * m * n,
    least_bytes=lambda m, n, s: s * 3 * (m * n + n),
)
class layer_norm_gradient:
    """∂L/∂X, ∂L/∂γ and ∂L/∂β of a layer normalisation, from X, γ and δ = ∂L/∂Y."""

    def inputs(case, generator):
        """Draw X and δ standard normal, and γ about 1."""
        m, n = case.sizes
        x, delta = torch.randn(2, m, n, generator=generator, dtype=torch.float64)
        gamma = 1 + torch.randn(n, generator=generator, dtype=torch.float64) / 10
        return {"x": x, "gamma": gamma, "delta": delta}

    def oracle(x, gamma, delta):
        """Differentiate the definition of Y by autograd."""

        def normalise(x, gamma, beta):
            deviation = x - x.mean(1, keepdim=True)
            variance = deviation.square().mean(1, keepdim=True)
            return deviation / (variance + EPSILON).sqrt() * gamma + beta

        pull_back = torch.func.vjp(normalise, x, gamma, torch.zeros_like(gamma))[1]
        return pull_back(delta)


@kernel(
    operation="layer_norm_gradient",
    baseline=True,
    flops=lambda m, n, s: 20 * m * n,
)
def autograd(x, gamma, delta):
    """Run `torch.nn.functional.layer_norm` forward and torch's autograd backward.

    Autograd has no gradient without the forward pass, whose Y it computes too.
    """
    inputs = (x.detach().requires_grad_(), gamma.detach().requires_grad_(),
              torch.zeros_like(gamma, requires_grad=True))  # fmt: skip
    y = layer_norm(inputs[0], gamma.shape, *inputs[1:], EPSILON)
    return torch.autograd.grad(y, inputs, delta)


@kernel(
    operation="layer_norm_gradient",
    flops=lambda m, n, s: 16 * m * n,
    workspace=lambda m, n, s: s * (5 * m * n + m - 2 * n),
)
def by_hand(x, gamma, delta):
    """Compute the formula as it stands, each operation of torch by itself.

    Materialises six arrays of the size of X at once, which is the price at large sizes.
    """
    deviation = x - x.mean(1, keepdim=True)
    r = (deviation.square().mean(1, keepdim=True) + EPSILON).rsqrt()
    normal = deviation * r
    g = delta * gamma
    by_x = r * (g - g.mean(1, keepdim=True) - normal * (normal * g).mean(1, keepdim=True))
    return by_x, (delta * normal).sum(0), delta.sum(0)


@kernel(
    operation="layer_norm_gradient",
    flops=lambda m, n, s: 18 * m * n,
    workspace=lambda m, n, s: s * (m * n + 2 * m + 2 * n),
)
def aten(x, gamma, delta):
    """Call the two functions of ATen that autograd calls, without its graph.

    The backward one asks for β and reads its shape alone.
    """
    _, mean, r = moments_and_normal(x, gamma.shape, None, None, EPSILON)
    return backward(delta, x, gamma.shape, mean, r, gamma, gamma, (True, True, True))
