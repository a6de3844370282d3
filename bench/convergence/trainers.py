"""Ways to train on one data set until its loss is low: full-batch steps, mini-batches, peers.

The fit operation asks how long 16 epochs take; here the question is how long until the loss is as
good as the closed form's. Every trainer goes on iteration by iteration, each as long as it likes (a
step, a part of an epoch, all of it), and shows its parameters in between. All are on the CPU.
"""

from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import torch

from mlr.case import Case, Gradient, Problem
from mlr.data import Dataset
from mlr.models import EinsumLinearRegression, LinearRegression, TorchLinearRegression
from mlr.registry import get_kernel
from mlr.training import Regression

from .records import TaskInfo

ITERATIONS_PER_EPOCH = 10  # of mini-batches


class Task(NamedTuple):
    """Training and validation rows, and how to train on them; scikit-learn's rates are its own."""

    data: Dataset
    info: TaskInfo

    def step_case(self) -> Case:
        """Return the case of a step on its training rows."""
        return Case.of("step", self.data.x_train, self.data.y_train)


class Training(NamedTuple):
    """A training that can go on by one iteration, and go back to where it began."""

    iterate: Callable[[], Any]
    parameters: Callable[[], Gradient]  # W (n, o) and b (o) as they are now
    restart: Callable[[], None]


class UnsupportedError(Exception):
    """A trainer cannot train on a task; its text says why."""


class Trainer(NamedTuple):
    """A way to train."""

    iteration: str  # what one is, in words
    # Gets a training ready, compilation included, or raises an UnsupportedError.
    start: Callable[[Task], Training]


def closed_form(data: Dataset) -> Gradient:
    """Return the W and b of the least loss on the training rows, in float64: by QR, `lstsq`."""
    x, y = data.x_train.double(), data.y_train.double()
    found = torch.linalg.lstsq(torch.cat([x, x.new_ones(len(x), 1)], 1), y).solution
    return Gradient(found[:-1], found[-1])


def validation_loss(data: Dataset, parameters: Gradient) -> float:
    """Return L = mean((XW + b − Y)²) on the validation rows, in float64."""
    weight, bias = (value.detach().double() for value in parameters)
    predicted = torch.addmm(bias, data.x_valid.double(), weight)
    return torch.nn.functional.mse_loss(predicted, data.y_valid.double()).item()


def _by_steps(name: str, task: Task) -> Training:
    kernel, problem = get_kernel(name), Problem(task.step_case())
    if (reason := kernel.unsupported(problem.case)) is not None:
        raise UnsupportedError(reason)
    problem.x, problem.y, problem.lr = task.data.x_train, task.data.y_train, task.info.lr
    return Training(kernel.bind(problem), problem.parameters, problem.reset)


def _by_batches(make: Callable[..., Regression], task: Task) -> Training:
    x, y = task.data.x_train, task.data.y_train
    model = make(x.shape[1], y.shape[1], device=x.device, dtype=x.dtype)
    start = Problem(task.step_case()).linear()
    size = task.info.batch_size
    rows = -(-len(x) // (ITERATIONS_PER_EPOCH * size)) * size  # whole mini-batches
    parts = list(zip(x.split(rows), y.split(rows), strict=True))
    following = cycle(parts)

    def iterate() -> None:
        model.fit(*next(following), 1, task.info.lr, size)

    def restart() -> None:
        nonlocal following
        model.copy_params(start)
        following = cycle(parts)

    restart()
    return Training(iterate, lambda: Gradient(model.weight, model.bias), restart)


def _sklearn_direct(task: Task) -> Training:
    from sklearn.linear_model import LinearRegression as ClosedForm

    x, y, *_ = (value.numpy() for value in task.data)
    model = ClosedForm()

    def restart() -> None:
        model.coef_, model.intercept_ = np.zeros((y.shape[1], x.shape[1])), np.zeros(y.shape[1])

    restart()
    return Training(
        lambda: model.fit(x, y),
        lambda: Gradient(torch.as_tensor(model.coef_.T), torch.as_tensor(model.intercept_)),
        restart,
    )


def _sklearn_sgd(task: Task) -> Training:
    from sklearn.linear_model import SGDRegressor

    (_, n), o = task.data.x_train.shape, task.data.y_train.shape[1]
    x, y, *_ = (value.numpy() for value in task.data)
    models: list[Any] = []

    def restart() -> None:
        models[:] = (SGDRegressor(random_state=0) for _ in range(o))

    def iterate() -> None:
        for number, model in enumerate(models):
            model.partial_fit(x, y[:, number])

    def parameters() -> Gradient:
        weights = [getattr(model, "coef_", np.zeros(n)) for model in models]
        biases = [getattr(model, "intercept_", [0.0]) for model in models]
        return Gradient(torch.tensor(np.stack(weights, 1)), torch.tensor(np.concatenate(biases)))

    restart()
    return Training(iterate, parameters, restart)


_STEPS = ("torch_nn", "auto_step", "torch_compile", "jax_jit")
_MODELS: dict[str, Callable[..., Regression]] = {
    "TorchLinearRegression": TorchLinearRegression,
    "LinearRegression": LinearRegression,
    "LinearRegression(kernel='auto')": partial(LinearRegression, kernel="auto"),
    "EinsumLinearRegression": EinsumLinearRegression,
}
TRAINERS: dict[str, Trainer] = {
    **{name: Trainer("a step on all rows", partial(_by_steps, name)) for name in _STEPS},
    **{name: Trainer("a tenth of an epoch", partial(_by_batches, model))
       for name, model in _MODELS.items()},
    "sklearn LinearRegression": Trainer("all of it", _sklearn_direct),
    "sklearn SGDRegressor": Trainer("an epoch of single rows", _sklearn_sgd),
}  # fmt: skip
