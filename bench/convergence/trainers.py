"""Ways to train on one data set until its loss is low: full-batch steps, mini-batches, peers.

What the fit stage asks beside "how long do 16 epochs take": how long until the loss is as good as
the closed form's? Every trainer goes on leg by leg, each as long as it likes (a step, a part of an
epoch, all of it), and shows its parameters in between.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from mlr.case import Case, Gradient, Problem
from mlr.data import Dataset
from mlr.models import EinsumLinearRegression, LinearRegression, TorchLinearRegression
from mlr.registry import get_kernel, needs
from mlr.training import Regression

STEPS = ("torch_nn", "auto_step", "torch_compile", "jax_jit")  # by step kernels, on all rows
LEGS_PER_EPOCH = 10  # of mini-batches


class Task(NamedTuple):
    """What is trained, and how.

    Attributes:
        data: Training and validation rows.
        lr: The learning rate η of all but scikit-learn's, which have their own.
        batch_size: Rows of a mini-batch, for those that take them.
    """

    data: Dataset
    lr: float
    batch_size: int

    def case(self, stage: str) -> Case:
        """Return the case that its training rows make."""
        return Case.of(stage, self.data.x_train, self.data.y_train)


class Training(NamedTuple):
    """A training that can go on, and begin anew.

    Attributes:
        leg: Trains on, by one leg.
        parameters: Returns W (n, o) and b (o) as they are now.
        restart: Goes back to where it began.
    """

    leg: Callable[[], Any]
    parameters: Callable[[], Gradient]
    restart: Callable[[], None]


class Trainer(NamedTuple):
    """A way to train.

    Attributes:
        leg: What one leg is, in words.
        start: Gets a training ready, compilation included.
        unsupported: Says why it does not take the task; None if it does.
        closed: Whether one leg is all: another one would change nothing.
    """

    leg: str
    start: Callable[[Task], Training]
    unsupported: Callable[[Task], str | None]
    closed: bool = False


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
    problem = Problem(task.case("step"))
    problem.x, problem.y, problem.lr = task.data.x_train, task.data.y_train, task.lr
    step = get_kernel(name).bind(problem)
    return Training(step, problem.parameters, problem.reset)


def _steps_unsupported(name: str, task: Task) -> str | None:
    return get_kernel(name).unsupported(task.case("step"))


def _by_batches(make: Callable[..., Regression], task: Task) -> Training:
    x, y = task.data.x_train, task.data.y_train
    model = make(x.shape[1], y.shape[1], device=x.device, dtype=x.dtype)
    start = Problem(task.case("step")).linear()
    size = task.batch_size
    rows = -(-len(x) // (LEGS_PER_EPOCH * size)) * size  # whole mini-batches
    parts = list(zip(x.split(rows), y.split(rows), strict=True))
    place = 0

    def leg() -> None:
        nonlocal place
        model.fit(*parts[place], 1, task.lr, size)
        place = (place + 1) % len(parts)

    def restart() -> None:
        nonlocal place
        model.copy_params(start)
        place = 0

    restart()
    return Training(leg, lambda: Gradient(model.weight, model.bias), restart)


def _on_cpu(task: Task) -> str | None:
    if task.data.x_train.device.type != "cpu":
        return "scikit-learn runs on the cpu only"
    return needs("sklearn")(task.case("fit"))


def _sklearn_closed(task: Task) -> Training:
    from sklearn.linear_model import LinearRegression as Closed

    x, y, *_ = (value.numpy() for value in task.data)
    model = Closed()

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

    def leg() -> None:
        for number, model in enumerate(models):
            model.partial_fit(x, y[:, number])

    def parameters() -> Gradient:
        found = [
            (getattr(m, "coef_", np.zeros(n)), getattr(m, "intercept_", [0.0])) for m in models
        ]
        weights, biases = zip(*found, strict=True)
        return Gradient(torch.tensor(np.stack(weights, 1)), torch.tensor(np.concatenate(biases)))

    restart()
    return Training(leg, parameters, restart)


def _batches(make: Callable[..., Regression]) -> Trainer:
    return Trainer("a tenth of an epoch", partial(_by_batches, make), lambda task: None)


TRAINERS: dict[str, Trainer] = {
    **{
        name: Trainer(
            "a step on all rows", partial(_by_steps, name), partial(_steps_unsupported, name)
        )
        for name in STEPS
    },
    "TorchLinearRegression": _batches(TorchLinearRegression),
    "LinearRegression": _batches(LinearRegression),
    "LinearRegression(kernel='auto')": _batches(partial(LinearRegression, kernel="auto")),
    "EinsumLinearRegression": _batches(EinsumLinearRegression),
    "sklearn LinearRegression": Trainer("all of it", _sklearn_closed, _on_cpu, closed=True),
    "sklearn SGDRegressor": Trainer("an epoch of single rows", _sklearn_sgd, _on_cpu),
}
