"""What a user calls on tensors of their own: a gradient, a step, many steps; checked once.

The checks say more than a type could, so the annotations leave the shapes to them.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .case import Case, Gradient, Problem
from .checks import check_lr, check_matrix, check_rows
from .registry import Kernel, get_kernel


def gradient(x: Tensor, delta: Tensor, kernel: str = "auto") -> Gradient:
    """Return ∂L/∂W = Xᵀδ (n, o) and ∂L/∂b = 1ᵀδ (o) by a kernel.

    Args:
        x: Inputs X (m, n).
        delta: ∂L/∂Ŷ (m, o), of the dtype and on the device of `x`.
        kernel: A kernel of stage gradient; `auto` takes what is fastest here.

    Raises:
        ValueError: For shapes, dtypes or devices that do not fit, numbers that are not finite, or a
            kernel that is unknown, of another stage, or does not take the case.
    """
    _check(x, "delta", delta)
    found: Gradient = _taken(kernel, "gradient", x, delta).function(x, delta)
    return found


def bind_step(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    lr: float | int,
    kernel: str = "auto_step",
) -> Callable[[], None]:
    """Return the call that takes one step of gradient descent in place, on the mean squared error.

    W −= η·∂L/∂W, b −= η·∂L/∂b with L = mean((XW + b − Y)²). Checks, buffers and compilation are
    done with once and for all: the call reads the very tensors given, whatever they hold by then.

    Args:
        x: Inputs X (m, n).
        y: Targets Y (m, o).
        weight: W (n, o), changed by every call.
        bias: b (o), changed by every call.
        lr: The learning rate η, in units of the parameters over the gradient.
        kernel: A kernel of stage step; `auto_step` takes what is fastest here.

    Raises:
        ValueError: As `gradient`; or for tensors that are not contiguous.
    """
    _check(x, "y", y)
    check_matrix("weight", weight, y.shape[1], x)
    check_matrix("bias", bias[None], y.shape[1], x)
    check_lr(lr)
    if len(weight) != x.shape[1]:
        raise ValueError(
            f"weight must have a row for each of {x.shape[1]} features; got {tuple(weight.shape)}; "
            "transpose it if it is a layer's"
        )
    tensors = {"x": x, "y": y, "weight": weight, "bias": bias}
    for name, value in tensors.items():
        if not value.is_contiguous():
            raise ValueError(f"{name} must be contiguous to be bound; call .contiguous() on it")
    taken = _taken(kernel, "step", x, y)
    if taken.own_parameters:
        raise ValueError(
            f"a step on tensors of yours needs a kernel that works on them; {kernel!r} keeps "
            "parameters of its own; choose another"
        )
    problem = Problem(Case.of("step", x, y))
    problem.lr = float(lr)
    problem.__dict__.update(tensors, start=Gradient(weight.clone(), bias.clone()))
    return taken.bind(problem)


def step(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    lr: float | int,
    kernel: str = "auto_step",
) -> None:
    """Take one step in place; for more than one on the same tensors see `bind_step`.

    Arguments and errors are those of `bind_step`.
    """
    bind_step(x, y, weight, bias, lr, kernel)()


def _check(x: Tensor, name: str, other: Tensor) -> None:
    check_matrix("x", x, _columns(x), x)
    check_matrix(name, other, _columns(other), x)
    check_rows("x", x, name, other)


def _columns(value: object) -> int:
    """Return how many columns it has; 0 for what is no matrix, which the check then says."""
    return value.shape[-1] if isinstance(value, Tensor) and value.ndim else 0


def _taken(name: str, stage: str, x: Tensor, y: Tensor) -> Kernel:
    kernel = get_kernel(name)
    if kernel.stage != stage:
        raise ValueError(f"a kernel of stage {stage} is needed; {name!r} is of {kernel.stage}")
    if reason := kernel.unsupported(Case.of(stage, x, y)):
        raise ValueError(f"kernel {name!r} does not take this: {reason}; choose another")
    return kernel
