# softmax.py: an operation, its baseline, a kernel; everything else follows
import torch
from torch.nn.functional import cross_entropy, one_hot

from mlr import kernel, operation


@operation(
    axes={"batch": (64, 4_096), "classes": (10, 1_000)},
    least_flops=lambda m, c, s: 5 * m * c,
    least_bytes=lambda m, c, s: 3 * m * c * s,
)
class softmax_cross_entropy_backward:
    """∂L/∂Z of the mean cross entropy: (softmax(Z) − Y)/m. Z, Y (m, c)."""

    def inputs(case, generator):
        m, c = case.sizes
        labels = torch.randint(c, (m,), generator=generator)
        z = torch.randn(m, c, generator=generator, dtype=torch.float64)
        return {"z": z, "y": one_hot(labels, c).double()}

    def oracle(z, y):
        z.requires_grad_()
        return torch.autograd.grad(cross_entropy(z, y), z)


@kernel(operation="softmax_cross_entropy_backward", baseline=True)
def autograd(z, y):
    z = z.detach().requires_grad_()
    return torch.autograd.grad(cross_entropy(z, y), z)[0]


@kernel(
    operation="softmax_cross_entropy_backward",
    flops=lambda m, c, s: 6 * m * c,
    workspace=lambda m, c, s: 0,
)
def by_hand(z, y):
    return z.softmax(1).sub_(y).div_(len(z))
