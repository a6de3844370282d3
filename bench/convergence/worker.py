"""One process of a convergence run: every trainer until its loss is low enough.

The fit operation asks how long 16 epochs take; here the question is how long until the loss is as
good as the closed form's. Every trainer goes on iteration by iteration, each as long as it likes (a
step, a part of an epoch, all of it), and shows its parameters in between. How many iterations it
takes is found first, with the loss after each; then they are timed in a row, with nothing in
between, several times over and alternating with the other trainers. All are on the CPU.

    python -m bench.convergence.worker '{"rows": 10000, …}' 0    one JSON object a line
"""

import json
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import torch

from mlr.case import Case, Gradient, Problem
from mlr.data import Dataset, make_dataset
from mlr.models import EinsumLinearRegression, LinearRegression, TorchLinearRegression
from mlr.operations import STEP
from mlr.registry import get_kernel
from mlr.training import Regression

from ..common.errors import in_one_line, single_line
from ..common.garbage import gc_paused
from ..machine.devices import Call
from ..machine.info import packages, settings
from ..measure.timing import time_batch
from .records import TaskInfo

ITERATIONS_PER_EPOCH = 10  # of mini-batches
MAX_ITERATIONS = 2_000
MAX_TRAINING_S = 5.0
VALID_ROWS = 10_000


class Trainer(NamedTuple):
    """A way to train."""

    iteration: str  # what one is, in words
    # Gets the training of a problem ready, compilation included, in mini-batches of so many rows if
    # it has any, and returns the call of one iteration. A NotImplementedError says why it cannot.
    bind: Callable[[Problem, int], Call]


def closed_form(data: Dataset) -> Gradient:
    """Return the W and b of the least loss on the training rows, in float64: by QR, `lstsq`."""
    x, y = data.x_train.double(), data.y_train.double()
    found = torch.linalg.lstsq(torch.cat([x, x.new_ones(len(x), 1)], 1), y).solution
    return Gradient(found[:-1], found[-1])


def make_problem(data: Dataset, lr: float) -> Problem:
    """Return the problem of training on the training rows, with parameters of its own."""
    problem = Problem(Case.of(STEP.name, data.x_train, data.y_train))
    problem.dataset = data
    problem.x, problem.y, problem.lr = data.x_train, data.y_train, lr
    return problem


def validation_loss(problem: Problem) -> float:
    """Return L = mean((XW + b − Y)²) on the validation rows, in float64."""
    weight, bias = (value.detach().double() for value in problem.parameters())
    predicted = torch.addmm(bias, problem.dataset.x_valid.double(), weight)
    return torch.nn.functional.mse_loss(predicted, problem.dataset.y_valid.double()).item()


def _by_steps(name: str, problem: Problem, batch_size: int) -> Call:
    kernel = get_kernel(name)
    if (reason := kernel.unsupported(problem.case)) is not None:
        raise NotImplementedError(reason)
    return kernel.bind(problem)


def _by_batches(make: Callable[..., Regression], problem: Problem, batch_size: int) -> Call:
    x, y = problem.x, problem.y
    model = make(x.shape[1], y.shape[1], device=x.device, dtype=x.dtype)
    rows = -(-len(x) // (ITERATIONS_PER_EPOCH * batch_size)) * batch_size  # whole mini-batches
    parts = list(zip(x.split(rows), y.split(rows), strict=True))
    following = cycle(parts)

    def iterate() -> None:
        model.fit(*next(following), 1, problem.lr, batch_size)

    def restart(start: Gradient) -> None:
        nonlocal following
        model.copy_params(problem.linear())
        following = cycle(parts)

    problem.set_parameter_accessors(lambda: Gradient(model.weight, model.bias), restart)
    return iterate


def _sklearn_direct(problem: Problem, batch_size: int) -> Call:
    from sklearn.linear_model import LinearRegression as ClosedForm

    model = ClosedForm()

    def restart(start: Gradient) -> None:
        model.coef_, model.intercept_ = start.weight.T.numpy(), start.bias.numpy()

    def parameters() -> Gradient:
        return Gradient(torch.as_tensor(model.coef_.T), torch.as_tensor(model.intercept_))

    problem.set_parameter_accessors(parameters, restart)
    return partial(model.fit, problem.x.numpy(), problem.y.numpy())


def _sklearn_sgd(problem: Problem, batch_size: int) -> Call:
    from sklearn.linear_model import SGDRegressor

    x, y = problem.x.numpy(), problem.y.numpy()
    models: list[Any] = []

    def restart(start: Gradient) -> None:  # it begins from zero, and learns at a rate of its own
        models[:] = (SGDRegressor(random_state=0) for _ in y.T)

    def iterate() -> None:
        for number, model in enumerate(models):
            model.partial_fit(x, y[:, number])

    def parameters() -> Gradient:
        weights = [getattr(model, "coef_", np.zeros(x.shape[1])) for model in models]
        biases = [getattr(model, "intercept_", [0.0]) for model in models]
        return Gradient(torch.tensor(np.stack(weights, 1)), torch.tensor(np.concatenate(biases)))

    problem.set_parameter_accessors(parameters, restart)
    return iterate


_MODELS: dict[str, Callable[..., Regression]] = {
    "TorchLinearRegression": TorchLinearRegression,
    "LinearRegression": LinearRegression,
    "LinearRegression(kernel='auto')": partial(LinearRegression, kernel="auto"),
    "EinsumLinearRegression": EinsumLinearRegression,
}
TRAINERS: dict[str, Trainer] = {
    **{name: Trainer("a step on all rows", partial(_by_steps, name))
       for name in ("torch_nn", "auto_step", "torch_compile", "jax_jit")},
    **{name: Trainer("a tenth of an epoch", partial(_by_batches, model))
       for name, model in _MODELS.items()},
    "sklearn LinearRegression": Trainer("all of it", _sklearn_direct),
    "sklearn SGDRegressor": Trainer("an epoch of single rows", _sklearn_sgd),
}  # fmt: skip


def make_data(task: TaskInfo) -> Dataset:
    """Make the data of a task."""
    return make_dataset(
        task.rows + VALID_ROWS, task.features, task.outputs,
        n_train=task.rows, dtype=task.dtype, seed=task.seed,
    )  # fmt: skip


def train_to_target(iterate: Call, problem: Problem, target: float) -> list[float]:
    """Train until the loss is at most the target; return it at the start and per iteration.

    Ends early where an iteration changes nothing any more, where the loss is no number, or where it
    takes too many iterations or too long.
    """
    losses = [validation_loss(problem)]
    spent_s = 0.0
    while losses[-1] > target and len(losses) <= MAX_ITERATIONS and spent_s < MAX_TRAINING_S:
        spent_s += time_batch(iterate, 1, "cpu").seconds
        losses.append(validation_loss(problem))
        if losses[-1] == losses[-2] or not math.isfinite(losses[-1]):
            break
    return losses


def _prepare(
    name: str, problem: Problem, task: TaskInfo, target: float
) -> tuple[dict[str, Any], Call | None]:
    trainer = TRAINERS[name]
    account = {"trainer": name, "iteration": trainer.iteration}
    try:
        iterate = trainer.bind(problem, task.batch_size)
        problem.reset()
        iterate()  # what compiles, compiles now
        problem.reset()
        losses = train_to_target(iterate, problem, target)
    except NotImplementedError as error:
        return account | {"status": "unsupported", "reason": single_line(error, 1000)}, None
    except Exception as error:
        return account | {"status": "crashed", "reason": in_one_line(error)}, None
    if losses[-1] <= target:
        return account | {"status": "ok", "losses": losses}, iterate
    finite = [loss for loss in losses if math.isfinite(loss)]
    reason = f"its loss was {losses[-1]:.6g} after {len(losses) - 1:,} iterations"
    return account | {"status": "not reached", "reason": reason, "losses": finite}, None


def measure(task: TaskInfo, number: int) -> Iterator[dict[str, Any]]:
    """Measure every trainer: yield the name of each before its turn, and at last what was found.

    A trainer's `seconds` are the median of this process.
    """
    data = make_data(task)
    best = make_problem(data, task.lr)
    best.weight, best.bias = closed_form(data)
    best_loss = validation_loss(best)
    target = (1 + task.tolerance) * best_loss
    order = random.Random(1_000 * task.seed + number)
    accounts, ready = {}, {}
    for name in order.sample(list(TRAINERS), len(TRAINERS)):
        yield {"trainer": name}
        problem = make_problem(data, task.lr)
        accounts[name], iterate = _prepare(name, problem, task, target)
        if iterate is not None:
            ready[name] = iterate, problem
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(task.repeats):
        for name in order.sample(list(ready), len(ready)):
            yield {"trainer": name}
            (iterate, problem), account = ready[name], accounts[name]
            iterations = len(account["losses"]) - 1
            problem.reset()
            with gc_paused():
                one_s = time_batch(iterate, iterations, "cpu").seconds
            seconds[name].append(iterations * one_s)
            loss = validation_loss(problem)
            if not loss <= target * (1 + 1e-9):
                reason = f"when timed, it ended at a loss of {loss:.6g}, not at the target"
                account |= {"status": "not reached", "reason": reason}
    for name, some in seconds.items():
        if accounts[name]["status"] == "ok":
            accounts[name]["seconds"] = [statistics.median(some)]
    yield {"closed_form_loss": best_loss, "target": target, "settings": settings(),
           "packages": packages(), "results": list(accounts.values())}  # fmt: skip


def main(task: str, number: str) -> None:
    """Measure one process and print its events; see the module."""
    for event in measure(TaskInfo.model_validate_json(task), int(number)):
        print(json.dumps(event), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
