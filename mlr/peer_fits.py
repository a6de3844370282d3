"""A whole training by other compilers and libraries, each as its own manual writes it.

Each call does what the models' does: from the start of the problem, `FIT_EPOCHS` epochs over the
mini-batches in order, and a loss on the validation rows after each. It returns both losses of every
epoch. They are checked and timed as the peers of `mlr.peers` are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .arrays import arrays
from .case import Gradient, Problem
from .fits import sweep_flops
from .operations import FIT_EPOCHS, FIT_FULL_BATCHES, FIT_VALID_ROWS
from .peers import _compiled, _needs_compiler, jax_array, jax_parameters, note_peak
from .registry import kernel, needs

_EPOCHS = range(FIT_EPOCHS)
Losses = list[tuple[float, float]]  # of an epoch: the mean of its batch losses, that of validation


def _residual_bytes(m: int, n: int, o: int, s: int) -> int:
    """Hold the residuals of the validation rows, and the gradient."""
    return (max(FIT_VALID_ROWS, m) * o + n * o + o) * s


@kernel(
    operation="fit",
    flops=sweep_flops,
    workspace=lambda m, n, o, s: 2 * _residual_bytes(m, n, o, s),
    unsupported_reason=_needs_compiler,
    peer=True,
)
def torch_compile_fit(problem: Problem) -> Callable[[], Losses]:
    """Train by epochs that `torch.compile` compiles whole, validation included.

    The mini-batches are unrolled into one graph of fixed shapes; its products stay those of the
    library. Source: torch.compile, TorchInductor.
    """
    batch, lr = problem.case.batch, problem.lr

    def run_epoch(
        x: Tensor, y: Tensor, x_valid: Tensor, y_valid: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        losses = []
        for rows, targets in zip(x.split(batch), y.split(batch), strict=True):
            residual = rows @ weight + bias - targets
            losses.append(residual.square().mean())
            rate = 2 * lr / targets.numel()
            weight.sub_(rows.T @ residual, alpha=rate)
            bias.sub_(residual.sum(0), alpha=rate)
        valid = (x_valid @ weight + bias - y_valid).square().mean()
        return torch.stack(losses).double().mean(), valid

    compiled = _compiled(run_epoch)
    given = *problem.dataset, problem.weight, problem.bias

    def fit() -> Losses:
        problem.reset()
        found = [compiled(*given) for _ in _EPOCHS]
        return [(float(mse), float(valid)) for mse, valid in found]

    return fit


@kernel(
    operation="fit",
    flops=sweep_flops,
    workspace=_residual_bytes,
    devices=("cpu",),
    peer=True,
)
def numpy_fit(problem: Problem) -> Callable[[], Losses]:
    """Train with NumPy, in place, as `numpy_step` steps: products into buffers made once.

    Materialises the residual and the gradient. Source: numpy.matmul.
    """
    data, batch, lr = problem.dataset, problem.case.batch, problem.lr
    weight, bias, x_valid, y_valid = arrays(
        problem.weight, problem.bias, data.x_valid, data.y_valid
    )
    by_weight, by_bias, residuals = arrays(
        *map(torch.empty_like, (problem.weight, problem.bias)),
        data.y_valid.new_empty(max(FIT_VALID_ROWS, batch), len(bias)),
    )
    batches = [
        arrays(*pair)
        for pair in zip(data.x_train.split(batch), data.y_train.split(batch), strict=True)
    ]

    def residual_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        residual = residuals[: len(x)]
        np.matmul(x, weight, out=residual)
        np.add(residual, bias, out=residual)
        np.subtract(residual, y, out=residual)
        return residual

    def mean_square(residual: np.ndarray) -> float:
        flat = residual.reshape(-1)
        return float(np.dot(flat, flat)) / flat.size

    def step(x: np.ndarray, y: np.ndarray) -> float:
        residual = residual_of(x, y)
        np.matmul(x.T, residual, out=by_weight)
        np.sum(residual, axis=0, out=by_bias)
        for parameter, gradient in ((weight, by_weight), (bias, by_bias)):
            np.multiply(gradient, 2 * lr / y.size, out=gradient)
            np.subtract(parameter, gradient, out=parameter)
        return mean_square(residual)

    def fit() -> Losses:
        problem.reset()
        losses = []
        for _ in _EPOCHS:
            found = [step(x, y) for x, y in batches]
            losses.append((sum(found) / len(found), mean_square(residual_of(x_valid, y_valid))))
        return losses

    return fit


def _scan(problem: Problem) -> Callable[..., Any]:
    """Return the training as a function of the data and of the parameters at its start."""
    import jax

    batch, lr, exact = problem.case.batch, problem.lr, jax.lax.Precision.HIGHEST
    whole = FIT_FULL_BATCHES * batch

    def residual_of(held: Any, rows: Any) -> Any:
        (weight, bias), (x, y) = held, rows
        return jax.numpy.dot(x, weight, precision=exact) + bias - y

    def step(held: Any, rows: Any) -> tuple[Any, Any]:
        (weight, bias), (x, y), residual = held, rows, residual_of(held, rows)
        rate = 2 * lr / y.size
        by_weight = jax.numpy.dot(x.T, residual, precision=exact)
        held = weight - rate * by_weight, bias - rate * residual.sum(0)
        return held, (residual**2).mean()

    def train(x: Any, y: Any, x_valid: Any, y_valid: Any, *start: Any) -> Any:
        batches = tuple(rows[:whole].reshape(FIT_FULL_BATCHES, batch, -1) for rows in (x, y))

        def run_epoch(held: Any, _: Any) -> tuple[Any, Any]:
            held, losses = jax.lax.scan(step, held, batches)
            held, last = step(held, (x[whole:], y[whole:]))
            mse = (losses.sum() + last) / (FIT_FULL_BATCHES + 1)
            return held, (mse, (residual_of(held, (x_valid, y_valid)) ** 2).mean())

        return jax.lax.scan(run_epoch, start, None, length=FIT_EPOCHS)

    return train


@kernel(
    operation="fit",
    flops=sweep_flops,
    workspace=_residual_bytes,
    unsupported_reason=needs("jax"),
    owns_parameters=True,
    peer=True,
    allocates_outside_torch=True,
)
def jax_scan(problem: Problem) -> Callable[[], Losses]:
    """Train by one call that `jax.jit` compiles: `lax.scan` over epochs, and over mini-batches.

    The short mini-batch follows on the scan, whose steps are all of one shape. The data are the
    problem's own memory, as in `jax_jit`, or copied in each call where JAX does not take them over
    for how they are aligned; the call is waited for. All that it holds is outside torch:
    `peak_bytes` is XLA's own account. Source: JAX, XLA.
    """
    import jax

    held = jax_parameters(problem, problem.start)
    tensors = *problem.dataset, *problem.start
    with jax.enable_x64(True):
        given = [jax_array(value) for value in tensors]
        compiled = jax.jit(_scan(problem)).lower(*given).compile()
    pairs = enumerate(zip(tensors, given, strict=True))
    copied = [k for k, (value, own) in pairs if own.unsafe_buffer_pointer() != value.data_ptr()]

    def fit() -> Losses:
        with jax.enable_x64(True):
            for number in copied:
                given[number] = jax_array(tensors[number])
        held[:], losses = compiled(*given)
        held[1].block_until_ready()
        return [
            (float(mse), float(valid)) for mse, valid in zip(*map(np.asarray, losses), strict=True)
        ]

    note_peak(fit, compiled)
    return fit


@kernel(
    operation="fit",
    flops=sweep_flops,
    workspace=_residual_bytes,
    devices=("cpu",),
    owns_parameters=True,
    peer=True,
    allocates_outside_torch=True,
)
def sklearn_mlp(problem: Problem) -> Callable[[], Losses]:
    """Train scikit-learn's `MLPRegressor` without a hidden layer by `partial_fit`, an epoch each.

    That is this regression, by plain gradient descent over mini-batches in order: no momentum, no
    penalty, not shuffled. Its loss is ½(Ŷ−Y)², summed over outputs, so that its learning rate is
    2η/o; what it reports is a mean over rows, and half of ours. `SGDRegressor` takes one row at a
    time and is another algorithm. Source: sklearn.neural_network.
    """
    from sklearn.neural_network import MLPRegressor

    case = problem.case
    x, y, x_valid, y_valid = arrays(*problem.dataset)
    y, y_valid = (value[:, 0] if case.out_features == 1 else value for value in (y, y_valid))
    model = MLPRegressor(
        hidden_layer_sizes=(), solver="sgd", alpha=0.0, batch_size=case.batch, shuffle=False,
        momentum=0.0, nesterovs_momentum=False,
        learning_rate_init=2 * problem.lr / case.out_features,
    )  # fmt: skip
    model.partial_fit(x, y)  # makes the parameters

    def write(values: Gradient) -> None:
        for held, value in zip((*model.coefs_, *model.intercepts_), values, strict=True):
            held[...] = value.numpy()

    def read() -> Gradient:
        return Gradient(*map(torch.from_numpy, (*model.coefs_, *model.intercepts_)))

    problem.set_parameter_accessors(read, write)
    problem.reset()

    def fit() -> Losses:
        problem.reset()
        losses = []
        for _ in _EPOCHS:
            model.partial_fit(x, y)
            valid = float(np.mean((model.predict(x_valid) - y_valid) ** 2))
            losses.append((2 * model.loss_, valid))
        return losses

    return fit
