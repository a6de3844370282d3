# momentum.py: an operation with state, which a call changes in place
import torch

from mlr import kernel, operation

MOMENTUM, RATE = 0.9, 0.01


@operation(
    axes={"numbers": (1_000, 100_000)},
    state=("p", "v"),
    least_flops=lambda n, s: 4 * n,
    least_bytes=lambda n, s: 5 * n * s,
)
class momentum_step:
    """One step of gradient descent with momentum: v ← 0.9·v + g, p ← p − 0.01·v."""

    def inputs(case, generator):
        p, v, g = torch.randn(3, case.numbers, generator=generator, dtype=torch.float64)
        return {"p": p, "v": v, "g": g}

    def oracle(p, v, g):
        v = MOMENTUM * v + g
        return p - RATE * v, v


@kernel(operation="momentum_step", baseline=True, binds=True)
def torch_sgd(problem):
    parameter = torch.nn.Parameter(problem.p)
    parameter.grad = problem.g
    optimiser = torch.optim.SGD([parameter], lr=RATE, momentum=MOMENTUM)
    optimiser.state[parameter]["momentum_buffer"] = problem.v
    return optimiser.step


@kernel(operation="momentum_step", flops=lambda n, s: 4 * n, workspace=lambda n, s: 0)
def in_place(p, v, g):
    v.mul_(MOMENTUM).add_(g)
    p.sub_(v, alpha=RATE)
