"""The forward pass of `torch.nn.Linear`, also of inputs with five axes, and other ways to it.

Ŷ = XWᵀ + b with W (o, n), as the layer holds it. Two reports of slower releases of PyTorch are
about these calls; `bench/experiments/torch_releases` says which, and holds releases against each
other on them. Shapes: X (m, n) or (m, 32, 64, 5, n), b (o), and the result as X with o for n.
"""

import torch
from torch.nn.functional import linear

from mlr import kernel, operation

AXES_BETWEEN = (32, 64, 5)


def drawn(generator, *rows, n, o):
    """Draw X, W and b standard normal."""
    shapes = {"x": (*rows, n), "w": (o, n), "b": (o,)}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def terms(x, w, b):
    """Sum the absolute values of what each number of Ŷ is summed from."""
    return x.abs() @ w.abs().T + b.abs()


@operation(
    axes={"batch": (256, 65_536), "in_features": (16,), "out_features": (16,)},
    least_flops=lambda m, n, o, s: 2 * m * n * o,
    least_bytes=lambda m, n, o, s: s * (m * n + n * o + o + m * o),
)
class linear_forward:
    """Ŷ = XWᵀ + b, X (m, n), W (o, n), b (o)."""

    def inputs(case, generator):
        """Draw all standard normal."""
        m, n, o = case.sizes
        return drawn(generator, m, n=n, o=o)

    def oracle(x, w, b):
        """Call the function of `torch.nn`."""
        return linear(x, w, b)

    error_scale = terms


@kernel(operation="linear_forward", baseline=True)
def functional(x, w, b):
    """Call `torch.nn.functional.linear`."""
    return linear(x, w, b)


@kernel(operation="linear_forward")
def product_and_sum(x, w, b):
    """Multiply, and add the bias by itself."""
    return x @ w.T + b


@operation(
    axes={"batch": (1,), "in_features": (32,), "out_features": (32,)},
    least_flops=lambda m, n, o, s: 2 * m * 10_240 * n * o,
    least_bytes=lambda m, n, o, s: s * (m * 10_240 * (n + o) + n * o + o),
)
class linear_forward_5d:
    """Ŷ = XWᵀ + b over the last of five axes: X (m, 32, 64, 5, n), W (o, n), b (o)."""

    def inputs(case, generator):
        """Draw all standard normal."""
        m, n, o = case.sizes
        return drawn(generator, m, *AXES_BETWEEN, n=n, o=o)

    def oracle(x, w, b):
        """Call the function of `torch.nn`."""
        return linear(x, w, b)

    error_scale = terms


@kernel(operation="linear_forward_5d", baseline=True)
def functional_5d(x, w, b):
    """Call `torch.nn.functional.linear`."""
    return linear(x, w, b)


@kernel(operation="linear_forward_5d")
def flattened(x, w, b):
    """Call it on a matrix of all rows."""
    return linear(x.flatten(0, -2), w, b).unflatten(0, x.shape[:-1])
