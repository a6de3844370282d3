"""What a user calls on tensors of their own: a gradient, a step, many steps; checked once.

The checks say more than a type could, so the annotations leave the shapes to them.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .case import Case, Gradient, Problem
from .checks import check_lr, check_numbers, check_rows, check_shape
from .operations import GRADIENT, STEP
from .registry import Kernel, get_kernel

# How a layer's weight is trained though a step needs it in other memory than the layer's.
_BY_A_COPY = (
    "train a copy, w = layer.weight.detach().T.contiguous(), and put it back after the steps, "
    "layer.weight.copy_(w.T) under torch.no_grad()"
)


def gradient(x: Tensor, delta: Tensor, kernel: str = "auto") -> Gradient:
    """Return ∂L/∂W = Xᵀδ (n, o) and ∂L/∂b = 1ᵀδ (o) by a kernel.

    Every call checks its tensors, for which it reads them through, and `auto` makes its choice in
    every call. Name the kernel where it is known; for many steps on the same tensors see
    `bind_step`, which checks and chooses once.

    Args:
        x: Inputs X (m, n).
        delta: ∂L/∂Ŷ (m, o), of the dtype and on the device of `x`.
        kernel: A kernel of operation gradient; `auto` takes what is fastest here, and costs a
            choice per call.

    Raises:
        ValueError: For shapes, dtypes or devices that do not fit, numbers that are not finite, or a
            kernel that is unknown, of another operation, or does not take the case.
    """
    _check(x, "delta", delta)
    found: Gradient = _find_kernel(kernel, GRADIENT.name, x, delta).function(x, delta)
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
    Nothing is recorded for autograd.

    `nn.Linear` stores its weight as (out, in), the transpose of W: a copy is trained and put back.

        w = layer.weight.detach().T.contiguous()
        call = bind_step(x, y, w, layer.bias, lr=0.01)
        ...
        with torch.no_grad():
            layer.weight.copy_(w.T)

    Args:
        x: Inputs X (m, n).
        y: Targets Y (m, o).
        weight: W (n, o), contiguous, changed by every call.
        bias: b (o), contiguous, changed by every call.
        lr: The learning rate η, in units of the parameters over the gradient.
        kernel: A kernel of operation step; `auto_step` takes what is fastest here.

    Raises:
        ValueError: As `gradient`; or for tensors that are not contiguous.
    """
    _check(x, "y", y)
    _check_parameters(x, y, weight, bias)
    check_lr(lr)
    found = _find_kernel(kernel, STEP.name, x, y)
    if found.owns_parameters:
        raise ValueError(
            f"a step on tensors of yours needs a kernel that works on them; {kernel!r} keeps "
            "parameters of its own; choose another"
        )
    problem = Problem(Case.of(STEP.name, x, y))
    problem.lr = float(lr)
    problem.x, problem.y = x.detach(), y.detach()
    problem.weight, problem.bias = weight.detach(), bias.detach()
    problem.start = Gradient(problem.weight.clone(), problem.bias.clone())
    return found.bind(problem)


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
    remedy = "give it two axes, a single column by .unsqueeze(1)"
    for called, value, columns in (("x", x, "features"), (name, other, "outputs")):
        check_shape(called, value, ("rows", columns), remedy)
        check_numbers(called, value, x, "x")
    check_rows("x", x, name, other)


def _check_parameters(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> None:
    """Check what a step reads and changes in place: a copy would be trained in its stead.

    Raises:
        ValueError: For other shapes, dtypes, devices or memory than a step needs.
    """
    n, o = x.shape[1], y.shape[1]
    if bias is None:
        raise ValueError(
            f"bias must be a tensor of shape ({o},); got None; a step always trains one: give "
            f"x.new_zeros({o})"
        )
    for name, value in {"x": x, "y": y}.items():
        if not value.is_contiguous():
            raise ValueError(f"{name} must be contiguous to be bound; call .contiguous() on it")
    stored = f"nn.Linear stores (out, in): {_BY_A_COPY}"
    check_shape("weight", weight, (n, o), stored, axes=" = (in, out)")
    check_shape("bias", bias, (o,), "give one number for each output", axes=" = (out,)")
    for name, value in {"weight": weight, "bias": bias}.items():
        check_numbers(name, value, x, "x")
    if not weight.is_contiguous():
        raise ValueError(
            "weight must own contiguous (in, out) memory, which a step changes in place; got "
            f"strides {weight.stride()}; {_BY_A_COPY}"
        )
    if not bias.is_contiguous():
        raise ValueError(
            "bias must own contiguous memory, which a step changes in place; got strides "
            f"{bias.stride()}; train a copy, b = bias.detach().contiguous(), and put it back after "
            "the steps, bias.copy_(b) under torch.no_grad()"
        )


def _find_kernel(name: str, operation: str, x: Tensor, y: Tensor) -> Kernel:
    kernel = get_kernel(name)
    if kernel.operation != operation:
        raise ValueError(
            f"a kernel of operation {operation} is needed; {name!r} is of {kernel.operation}"
        )
    if reason := kernel.unsupported(Case.of(operation, x, y)):
        raise ValueError(f"kernel {name!r} does not take this: {reason}; choose another")
    return kernel
