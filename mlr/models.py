"""Three linear regressions trained alike: two from scratch and one of torch.nn.

Ŷ = XW + b, L = mean((Ŷ-Y)²), δ = ∂L/∂Ŷ = 2(Ŷ-Y)/(m·o), W ← W - η·∂L/∂W, b ← b - η·∂L/∂b, with
X (m, n), Y (m, o), W (n, o), b (o).

The scratch models hold W as the transposed view of a tensor (o, n), the layout of
`torch.nn.Linear`, and round where torch.nn rounds (`addmm` for Ŷ, 2/(m·o) as one factor, η inside
the subtraction), so that only the gradient kernel's own order of summation can tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from . import dispatch
from .case import Case, Gradient, overwrite
from .checks import as_device, as_dtype, check_count, check_matrix, check_rows
from .gradients import auto, one_pass
from .one_pass.fit import bind_epoch, bind_loss, sweep_epochs
from .operations import FIT, FIT_EPOCHS, FIT_VALID_ROWS, fit_flops, fit_rows
from .registry import Kernel, get_kernel
from .registry import kernel as fit_kernel
from .steps import one_pass_step
from .training import History, Losses, Regression, Step, Training

__all__ = ["EinsumLinearRegression", "History", "LinearRegression", "TorchLinearRegression"]
_SWEPT = ("update", "_predict", "_mse", "_make_step")  # what sweeps do instead


def _fit_workspace(m: int, n: int, o: int, s: int) -> int:
    """Hold validation's predictions, residuals and squares.

    Not to the byte: a few parameters' worth is left out.
    """
    return 3 * max(FIT_VALID_ROWS, m) * o * s


@fit_kernel(
    operation="fit",
    flops=lambda m, n, o, s: fit_flops(m, n, o, 2 * n * o),
    workspace=_fit_workspace,
)
class LinearRegression(Regression):
    """Regress with tensors alone; the gradient is a registered kernel's.

    `w` (n, o) and `b` (o) are the parameters, at first uniform in ±1/√n from the generator, drawn
    on its device in float64 as `nn.Linear` draws them. Device and dtype default to torch's own.
    With the kernel `one_pass`, or `auto` where that is the fastest, compiled code takes a whole
    training in few calls, see `in_one_pass`; the losses are the same but for rounding.

    Raises:
        ValueError: For sizes below 1, a bad device or dtype, or a kernel that is unknown, of
            another operation, or not made for the device or dtype.
    """

    def __init__(
        self,
        n_features: int,
        out_features: int,
        *,
        kernel: str = "matmul",
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Draw the parameters and look the kernel up."""
        weight, bias = _draw(n_features, out_features, device, dtype, generator)
        self.kernel = _gradient_kernel(kernel, weight)
        self.w: Tensor = weight.T
        self.b: Tensor = bias

    def __repr__(self) -> str:
        """Write the call that makes such a model, its parameters left out."""
        sizes = f"n_features={len(self.w)}, out_features={len(self.b)}"
        return f"{type(self).__name__}({sizes}, kernel={self.kernel.name!r}, {_place(self.w)})"

    @property
    def weight(self) -> Float[Tensor, "n o"]:
        """The current weight `w`, detached; a view, not a copy."""
        return self.w.detach()

    @property
    def bias(self) -> Float[Tensor, " o"]:
        """The current bias `b`, detached; a view, not a copy."""
        return self.b.detach()

    def mse_loss(self, y_true: Float[Tensor, "m o"], y_pred: Float[Tensor, "m o"]) -> float:
        """Return L = mean((Ŷ-Y)²), in units of y squared.

        Raises:
            ValueError: For targets or predictions of another shape, dtype or device, empty or not
                finite.
        """
        check_matrix("y_true", y_true, self.b.shape[0], self.b)
        check_matrix("y_pred", y_pred, self.b.shape[0], self.b)
        check_rows("y_true", y_true, "y_pred", y_pred)
        return self._mse(y_true, y_pred).item()

    def update(
        self,
        x: Float[Tensor, "m n"],
        y_true: Float[Tensor, "m o"],
        y_pred: Float[Tensor, "m o"],
        lr: float | int,
    ) -> None:
        """Take one step in place: W ← W - η·∂L/∂W, b ← b - η·∂L/∂b. Checks nothing.

        Shapes: x (m, n), y_true and y_pred (m, o), the latter predicted from x.
        """
        delta = (y_pred - y_true).mul_(2 / y_true.numel())
        gradient = self.kernel.function(x, delta)
        self.w.sub_(gradient.weight, alpha=lr)
        self.b.sub_(gradient.bias, alpha=lr)

    def _predict(self, x: Tensor) -> Tensor:
        return torch.addmm(self.b, x, self.w)

    def _mse(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return (y_pred - y_true).square().mean()

    def _make_step(self, lr: float | int) -> Step:
        def step(x: Tensor, y: Tensor) -> Tensor:
            y_pred = self._predict(x)
            loss = self._mse(y, y_pred)
            self.update(x, y, y_pred, lr)
            return loss

        return step

    def in_one_pass(self, rows: int) -> bool:
        """Say whether compiled sweeps train on mini-batches of so many rows, and find the loss.

        They do in place of the kernel `one_pass`, and of `auto` where `auto_step` would take
        `one_pass_step`; not in a subclass that computes otherwise.
        """
        if self.kernel.function not in (one_pass, auto) or any(
            getattr(type(self), name) is not getattr(LinearRegression, name) for name in _SWEPT
        ):
            return False
        if self.kernel.function is one_pass:
            return True
        weight = self.w
        place = weight.device, weight.dtype
        selected = dispatch.select_by_sizes("step", *place, rows, *weight.shape)
        return selected.function is one_pass_step

    def packed(self) -> Gradient:
        """Return copies of W and b in memory that sweeps can read."""
        return Gradient(*(v.clone(memory_format=torch.contiguous_format) for v in (self.w, self.b)))

    @contextmanager
    def _put_back(self) -> Iterator[Gradient]:
        held = self.packed()
        try:
            yield held
        finally:
            self.w.copy_(held.weight)
            self.b.copy_(held.bias)

    def _evaluate(self, x: Tensor, y_true: Tensor) -> float:
        if not self.in_one_pass(x.shape[0]):
            return super()._evaluate(x, y_true)
        return bind_loss(x, y_true, self.packed())()

    def _make_batch_step(self, lr: float | int) -> Callable[[Tensor, Tensor], Tensor | float]:
        plain = self._make_step(lr)

        def step(x: Tensor, y: Tensor) -> Tensor | float:
            if not self.in_one_pass(len(x)):
                return plain(x, y)
            with self._put_back() as parameters:
                return bind_epoch(x, y, parameters, lr, len(x))()

        return step

    def _run(self, training: Training) -> Generator[Losses]:
        x, y, epochs, lr, batch_size, valid, verbose, check = training
        if not self.in_one_pass(min(batch_size, x.shape[0])):
            yield from super()._run(training)
            return
        with self._put_back() as held:
            losses = sweep_epochs(x, y, held, lr, batch_size, epochs, valid, together=not verbose)
            first = next(losses)
            # Every number of the data is in one of these, and makes it so if it is not finite.
            if not all(map(math.isfinite, filter(None, first))):
                try:
                    check()
                except ValueError:
                    overwrite(held, (self.w, self.b))
                    raise
            yield first
            yield from losses


@fit_kernel(
    operation="fit",
    flops=lambda m, n, o, s: fit_flops(m, n, o, 2 * n * o * o),
    bytes_moved=lambda m, n, o, s: (
        FIT.least_bytes(m, n, o, s) + 2 * FIT_EPOCHS * fit_rows(m) * n * o * o * s
    ),
    workspace=lambda m, n, o, s: max(
        _fit_workspace(m, n, o, s), (m * n * o * o + 2 * m * o + 2 * n * o) * s
    ),
)
class EinsumLinearRegression(LinearRegression):
    """Regress with the Jacobian written out: I ⊗ X by `torch.kron`, contracted by einsum.

    ∂L/∂W_ij = Σ_pq δ_pq · ∂Ŷ_pq/∂W_ij, the Jacobian (m, o, n, o) held whole. As
    `LinearRegression` in all but the default kernel.
    """

    def __init__(
        self,
        n_features: int,
        out_features: int,
        *,
        kernel: str = "kron_einsum",
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Draw the parameters and look the kernel up."""
        super().__init__(
            n_features, out_features, kernel=kernel, device=device, dtype=dtype, generator=generator
        )


@fit_kernel(
    operation="fit",
    flops=lambda m, n, o, s: fit_flops(m, n, o, 2 * n * o),
    workspace=_fit_workspace,
    baseline=True,
)
class TorchLinearRegression(Regression, nn.Module):
    """Regress with torch's own `nn.Linear`, `MSELoss` and `SGD`; the baseline.

    `layer` is the `nn.Linear`, at first drawn as in `LinearRegression`. Device and dtype default
    to torch's own.

    Raises:
        ValueError: For sizes below 1 or a bad device or dtype.
    """

    def __init__(
        self,
        n_features: int,
        n_out_features: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Draw the parameters into a layer."""
        super().__init__()
        weight, bias = _draw(n_features, n_out_features, device, dtype, generator)
        empty = nn.Linear(n_features, n_out_features, device="meta", dtype=weight.dtype)
        self.layer = empty.to_empty(device=weight.device)
        self.loss = nn.MSELoss()
        self.weight.copy_(weight.T)
        self.bias.copy_(bias)

    @property
    def weight(self) -> Float[Tensor, "n o"]:
        """The layer's weight transposed to (n, o), detached; a view, not a copy."""
        return self.layer.weight.detach().T

    @property
    def bias(self) -> Float[Tensor, " o"]:
        """The layer's bias, detached; a view, not a copy."""
        return self.layer.bias.detach()

    def extra_repr(self) -> str:
        """Write what `repr` says of it before its layer and its loss."""
        n, o = self.weight.shape
        return f"n_features={n}, n_out_features={o}, {_place(self.weight)}"

    def forward(self, x: Float[Tensor, "m n"]) -> Float[Tensor, "m o"]:
        """Return Ŷ = XW + b of shape (m, o), tracked by autograd. Checks nothing."""
        y_pred: Tensor = self.layer(x)
        return y_pred

    def _predict(self, x: Tensor) -> Tensor:
        return self.forward(x)

    def _mse(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        loss: Tensor = self.loss(y_pred, y_true)
        return loss

    def _make_step(self, lr: float | int) -> Step:
        optimiser = torch.optim.SGD(self.parameters(), lr=lr)

        def step(x: Tensor, y: Tensor) -> Tensor:
            optimiser.zero_grad()
            loss = self._mse(y, self(x))
            loss.backward()
            optimiser.step()
            return loss.detach()

        return step


def _draw(
    n_features: int,
    out_features: int,
    device: torch.device | str | None,
    dtype: torch.dtype | str | None,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Draw weight (o, n) and bias (o), uniform in ±1/√n: the numbers `nn.Linear` would draw."""
    check_count("n_features", n_features)
    check_count("out_features", out_features)
    place, kind = as_device(device), as_dtype(dtype)
    source = torch.device("cpu") if generator is None else generator.device
    bound = n_features**-0.5
    drawn = (
        torch.empty(shape, device=source, dtype=torch.float64).uniform_(
            -bound, bound, generator=generator
        )
        for shape in ((out_features, n_features), (out_features,))
    )
    weight, bias = (value.to(place, kind) for value in drawn)
    return weight, bias


def _place(value: Tensor) -> str:
    """Return dtype and device as the keywords that a model takes."""
    return f"dtype='{str(value.dtype).removeprefix('torch.')}', device='{value.device}'"


def _gradient_kernel(name: str, like: Tensor) -> Kernel:
    kernel = get_kernel(name)
    if kernel.operation != "gradient":
        raise ValueError(
            f"a model takes a kernel of operation gradient; {name!r} is of operation "
            f"{kernel.operation}; choose another"
        )
    dtype, device = str(like.dtype).removeprefix("torch."), like.device.type
    if dtype not in kernel.dtypes or device not in kernel.devices:
        raise ValueError(
            f"kernel {name!r} takes {', '.join(kernel.dtypes)} on {', '.join(kernel.devices)}; "
            f"got {dtype} on {device}; choose another"
        )
    out_features, features = like.shape
    if reason := kernel.unsupported(Case("gradient", device, dtype, 1, features, out_features)):
        raise ValueError(f"a model takes a kernel for its sizes; {name!r} is none: {reason}")
    return kernel
