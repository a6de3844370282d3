"""The built-in operations, on a linear layer: its gradient, a training step, a whole training.

Each is declared here and nowhere else. Its kernels name it in their decorator, and a grid of the
harness says at which sizes it is measured.

Ŷ = XW + b, L = mean((Ŷ−Y)²), δ = ∂L/∂Ŷ = 2(Ŷ−Y)/(m·o), ∂L/∂W = Xᵀδ, ∂L/∂b = 1ᵀδ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch import float64 as double
from torch.optim import SGD

from .case import DTYPES, LEARNING_RATE, Case, Gradient, Problem
from .data import Dataset, make_dataset
from .declaration import Operation, Probe, draw_each, register_operation
from .probes import MEAN, few_row_count, few_rows, few_rows_step, one_product_a_row

# What is measured of each axis where nothing says. With the least rows kernels are checked besides:
# of them no error of a row or a factor hides among the roundings of the sum.
AXES = {"batch": (100,), "in_features": (16,), "out_features": (8,)}
FIT_EPOCHS = 16
FIT_FULL_BATCHES = 3  # and one row more, so that the last mini-batch is short: 3·33+1 = 100
FIT_VALID_ROWS = 10_000
FEW_ROWS, WIDE_PRODUCTS = 256, 2**13  # where a gradient is one of BLAS: 100 × 256 → 64
IN_CACHE_BYTES = 2**20  # of X: beyond it a block is read again out of the cache, not out of memory
BLOCK_NUMBERS = 2**18  # of rows in float64: what is made of them stays in a cache


def fit_rows(batch: int) -> int:
    """Return the training rows of a fit: three full mini-batches and one row."""
    return FIT_FULL_BATCHES * batch + 1


def fit_flops(m: int, n: int, o: int, backward: int) -> int:
    """Count the products of a fit; `backward`: those of the gradient of one row."""
    forward = fit_rows(m) + FIT_VALID_ROWS
    return FIT_EPOCHS * (2 * forward * n * o + fit_rows(m) * backward)


def draw_x(problem: Problem) -> Tensor:
    """Draw inputs X, standard normal."""
    return problem.draw_normal(0, problem.case.batch, problem.case.in_features)


def draw_y(problem: Problem) -> Tensor:
    """Draw targets Y, standard normal."""
    return problem.draw_normal(1, problem.case.batch, problem.case.out_features)


def draw_delta(problem: Problem) -> Tensor:
    """Draw ∂L/∂Ŷ: standard normal, scaled as 2(Ŷ−Y)/(m·o) would be."""
    m, _, o = problem.case.sizes
    return problem.draw_normal(2, m, o, scale=2 / (m * o))


def draw_start(problem: Problem) -> Gradient:
    """Draw the parameters before the first step: normal, of variance 1/n."""
    _, n, o = problem.case.sizes
    scale = n**-0.5
    draw = partial(problem.draw_normal, scale=scale)
    return Gradient(draw(3, n, o), draw(4, o))


def zero_start(problem: Problem) -> Gradient:
    """Return parameters of zero: what the first step makes of them is its change alone."""
    return Gradient(*map(torch.zeros_like, problem.start))


def draw_dataset(problem: Problem) -> Dataset:
    """Make the data of a fit, as scikit-learn's `make_regression` does."""
    m, n, o = problem.case.sizes
    return make_dataset(
        n_samples=fit_rows(m) + FIT_VALID_ROWS,
        n_features=n,
        n_targets=o,
        n_train=fit_rows(m),
        device=problem.case.device,
        dtype=DTYPES[problem.case.dtype],
        seed=problem.seed,
    )


def parameter_shapes(m: int, n: int, o: int) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of weight and bias, and of the gradient by them."""
    return {"weight": (n, o), "bias": (o,)}


def stable_lr(m: int, n: int, o: int) -> float:
    """Return a learning rate of which steps are stable for wide, short inputs too.

    n/m bounds the largest eigenvalue of XᵀX/m.
    """
    return LEARNING_RATE / max(1.0, n / m)


def update_roundings(updates: int) -> float:
    """Return the roundings of so many updates, one after another in a parameter.

    2 for a gradient (product, sum); 6 more for an update (prediction, residual, scale, product,
    sum, subtraction), times √k for k updates, whose errors are independent and add in squares.
    """
    return 2 + 6 * math.sqrt(updates)


def term_count(m: int, n: int, o: int) -> int:
    """Return how many products an element of the results sums: over rows, and over features."""
    return m + n


def oracle_gradient(problem: Problem, calls: int = 1) -> Gradient:
    """Return the gradient by `nn.Linear` and autograd in float64."""
    x, delta = problem.x.double(), problem.delta.double()
    n, o = x.shape[1], delta.shape[1]
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n, o, device=x.device, dtype=x.dtype)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    layer(x).backward(delta)
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    return Gradient(layer.weight.grad.T, layer.bias.grad)


def oracle_steps(problem: Problem, calls: int) -> Gradient:
    """Return weight (n, o) and bias (o) after so many SGD steps by torch.nn in float64."""
    return _train(problem, problem.x, problem.y, calls)


def oracle_fit(problem: Problem, calls: int = 1) -> Gradient:
    """Return weight (n, o) and bias (o) after a fit by torch.nn in float64."""
    data = problem.dataset
    return _train(problem, data.x_train, data.y_train, FIT_EPOCHS)


def _train(problem: Problem, x: Tensor, y: Tensor, epochs: int) -> Gradient:
    batch, x, y = problem.case.batch, x.double(), y.double()
    layer, loss = problem.linear(double), nn.MSELoss()
    optimiser = SGD(layer.parameters(), lr=problem.lr)
    for _ in range(epochs):
        for rows, targets in zip(x.split(batch), y.split(batch), strict=True):
            optimiser.zero_grad()
            loss(layer(rows), targets).backward()
            optimiser.step()
    return Gradient(layer.weight.detach().T, layer.bias.detach())


def _absolute_blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Return the rows of tensors in float64 without their signs, some at a time.

    What is made of all at once would come from memory again and again.
    """
    rows = max(1, BLOCK_NUMBERS // sum(tensor.shape[1] for tensor in tensors))
    for block in zip(*(tensor.split(rows) for tensor in tensors), strict=True):
        yield tuple(part.double().abs() for part in block)


def _sum_products(sums: Gradient, blocks: Iterable[tuple[Tensor, ...]]) -> Gradient:
    """Add XᵀΔ and 1ᵀΔ of each block of rows to sums, and return these."""
    for x, delta in blocks:
        sums.weight.add_(x.T @ delta)
        sums.bias.add_(delta.sum(0))
    return sums


def gradient_scale(problem: Problem, calls: int, expected: Gradient) -> Gradient:
    """Return |X|ᵀ|δ| and 1ᵀ|δ|."""
    return _sum_products(
        Gradient(*map(torch.zeros_like, expected)), _absolute_blocks(problem.x, problem.delta)
    )


def step_scale(problem: Problem, calls: int, expected: Gradient) -> Gradient:
    """Return the absolute parameters, and what so many steps add to them."""
    start = Gradient(*(value.double().abs() for value in problem.start))
    rate = calls * problem.lr * 2 / problem.y.numel()
    blocks = _absolute_blocks(problem.x, problem.y)
    deltas = ((x, (x @ start.weight + start.bias + y) * rate) for x, y in blocks)
    return _sum_products(Gradient(*(value.clone() for value in start)), deltas)


def fit_scale(problem: Problem, calls: int, expected: Gradient) -> Gradient:
    """Return the largest weight and the largest bias."""
    return Gradient(expected.weight.abs().max(), expected.bias.abs().max())


def bind_gradient(function: Callable[..., Any], problem: Problem) -> Callable[[], Any]:
    """Bind a function of X and δ."""
    return partial(function, problem.x, problem.delta)


def bind_fit(function: Callable[..., Any], problem: Problem) -> Callable[[], Any]:
    """Bind the training of a model class, or a function of a problem that does so."""
    if isinstance(function, type):
        return bind_model(function, problem)
    bound: Callable[[], Any] = function(problem)
    return bound


def bind_model(make: Callable[..., Any], problem: Problem) -> Callable[[], Any]:
    """Bind the training of the model that a class or a function makes.

    It begins with the problem's parameters, which are the model's.
    """
    case, data = problem.case, problem.dataset
    model = make(case.in_features, case.out_features, device=case.device, dtype=DTYPES[case.dtype])
    problem.weight, problem.bias = model.weight, model.bias

    def fit() -> Any:
        problem.reset()
        return model.fit(
            data.x_train, data.y_train, FIT_EPOCHS, problem.lr, case.batch,
            data.x_valid, data.y_valid,
        )  # fmt: skip

    return fit


def preferred_gradients(case: Case) -> tuple[str, ...]:
    """Return the gradient kernels to take where nothing was measured, the best first.

    What few rows of a wide W cost is to write the sums, and a library writes them once.
    """
    m, n, o = case.sizes
    wide = m <= FEW_ROWS and n * o >= WIDE_PRODUCTS
    return ("matmul", "one_pass") if wide else ("one_pass", "matmul")


def preferred_steps(case: Case) -> tuple[str, ...]:
    """Return the step kernels to take where nothing was measured, the best first."""
    large = case.batch * case.in_features * case.itemsize > IN_CACHE_BYTES
    on_cpu = case.device.startswith("cpu")
    return "one_pass_step", "blocked" if on_cpu and large else "fused_addmm"


def shifted_delta(problem: Problem) -> Tensor:
    """Draw ∂L/∂Ŷ of a mean of so many standard deviations."""
    m, _, o = problem.case.sizes
    return draw_delta(problem) + MEAN * 2 / (m * o)


def gradient_probes() -> tuple[Probe, ...]:
    """Return the inputs that a gradient is probed on."""
    return (
        Probe(
            "inputs of non-zero mean",
            lambda p: {"x": draw_x(p) + MEAN, "delta": shifted_delta(p)},
            same_sign=lambda m, n, o: m,
            full_size=False,
        ),
        Probe(
            "inputs of one product a row",
            lambda p: dict(zip(("x", "delta"), one_product_a_row(p), strict=True)),
        ),
        Probe(
            "inputs of few rows that are not zero",
            lambda p: dict(zip(("x", "delta"), few_rows(p), strict=True)),
            same_sign=few_row_count,
        ),
    )


def step_probes() -> tuple[Probe, ...]:
    """Return the inputs and parameters that a step is probed on."""
    names = "x", "y", "start"
    return (
        Probe(
            "inputs of non-zero mean",
            lambda p: {"x": draw_x(p) + MEAN, "y": draw_y(p) + MEAN, "start": draw_start(p)},
            same_sign=lambda m, n, o: m,
            full_size=False,
        ),
        Probe(
            "inputs of one product a row, from parameters of zero",
            lambda p: dict(zip(names, (*one_product_a_row(p), zero_start(p)), strict=True)),
        ),
        Probe(
            "inputs of few rows that are not zero",
            lambda p: dict(zip(names, few_rows_step(p), strict=True)),
            same_sign=few_row_count,
        ),
    )


GRADIENT = register_operation(
    Operation(
        name="gradient",
        title="gradient",
        axes=AXES,
        inputs=("x", "delta"),
        draw=draw_each(x=draw_x, delta=draw_delta),
        results=parameter_shapes,
        oracle=oracle_gradient,
        error_scale=gradient_scale,
        roundings=lambda calls: update_roundings(0),
        terms=term_count,
        least_flops=lambda m, n, o, s: 2 * m * n * o + m * o,
        least_bytes=lambda m, n, o, s: s * (m * (n + o) + n * o + o),
        input_bytes=lambda m, n, o, s: s * m * (n + o),
        bind=bind_gradient,
        lr=stable_lr,
        preferred=preferred_gradients,
        probes=gradient_probes(),
    )
)
STEP = register_operation(
    Operation(
        name="step",
        title="training step",
        axes=AXES,
        inputs=("x", "y", "start"),
        draw=draw_each(x=draw_x, y=draw_y, start=draw_start),
        results=parameter_shapes,
        oracle=oracle_steps,
        error_scale=step_scale,
        roundings=update_roundings,
        terms=term_count,
        least_flops=lambda m, n, o, s: 4 * m * n * o + 2 * m * o + n * o + o,
        least_bytes=lambda m, n, o, s: s * (m * (n + o) + 2 * (n * o + o)),
        input_bytes=lambda m, n, o, s: s * m * (n + o),
        state=Gradient._fields,
        stateful=True,
        lr=stable_lr,
        preferred=preferred_steps,
        probes=step_probes(),
        probe_lr=lambda m, n, o: o / 4,  # W −= Xᵀ(Ŷ−Y)/(2m), whatever o is
    )
)
FIT = register_operation(
    Operation(
        name="fit",
        title="training",
        axes=AXES,
        inputs=("dataset", "start"),
        draw=draw_each(dataset=draw_dataset, start=draw_start),
        results=parameter_shapes,
        oracle=oracle_fit,
        error_scale=fit_scale,
        roundings=lambda calls: update_roundings(4 * FIT_EPOCHS * calls),
        terms=term_count,
        least_flops=lambda m, n, o, s: FIT_EPOCHS * (4 * fit_rows(m) + 2 * FIT_VALID_ROWS) * n * o,
        least_bytes=lambda m, n, o, s: s * ((fit_rows(m) + FIT_VALID_ROWS) * (n + o) + n * o + o),
        input_bytes=lambda m, n, o, s: s * (fit_rows(m) + FIT_VALID_ROWS) * (n + o),
        bind=bind_fit,
        state=Gradient._fields,
        iterative=True,
        lr=stable_lr,
    )
)
