"""One process of a convergence run: every trainer until its loss is low enough.

How many iterations a trainer takes is found first, with the loss after each; then they are timed in
a row, with nothing in between, several times over and alternating with the other trainers.

    python -m bench.convergence.worker '{"rows": 10000, …}' 0    one JSON object a line
"""

import json
import math
import random
import statistics
import sys
from collections.abc import Iterator
from typing import Any

from mlr.case import DTYPES
from mlr.data import make_dataset

from ..common.errors import in_one_line
from ..common.garbage import gc_paused
from ..machine.info import packages, settings
from ..measure.timing import time_batch
from .records import TaskInfo
from .trainers import (
    TRAINERS,
    Task,
    Training,
    UnsupportedError,
    closed_form,
    validation_loss,
)

MAX_ITERATIONS = 2_000
MAX_TRAINING_S = 5.0
VALID_ROWS = 10_000


def make_task(info: TaskInfo) -> Task:
    """Make the data of a task."""
    data = make_dataset(
        n_samples=info.rows + VALID_ROWS,
        n_features=info.features,
        n_targets=info.outputs,
        n_train=info.rows,
        dtype=DTYPES[info.dtype],
        seed=info.seed,
    )
    return Task(data, info)


def train_to_target(training: Training, task: Task, target: float) -> list[float]:
    """Train until the loss is at most the target; return it at the start and per iteration.

    Ends early where an iteration changes nothing any more, where the loss is no number, or where it
    takes too many iterations or too long.
    """
    losses = [validation_loss(task.data, training.parameters())]
    spent_s = 0.0
    while losses[-1] > target and len(losses) <= MAX_ITERATIONS and spent_s < MAX_TRAINING_S:
        spent_s += time_batch(training.iterate, 1, "cpu").seconds
        losses.append(validation_loss(task.data, training.parameters()))
        if losses[-1] == losses[-2] or not math.isfinite(losses[-1]):
            break
    return losses


def _prepare(name: str, task: Task, target: float) -> tuple[dict[str, Any], Training | None]:
    trainer = TRAINERS[name]
    account = {"trainer": name, "iteration": trainer.iteration}
    try:
        training = trainer.start(task)
        training.iterate()  # what compiles, compiles now
        training.restart()
        losses = train_to_target(training, task, target)
    except UnsupportedError as error:
        return account | {"status": "unsupported", "reason": str(error)}, None
    except Exception as error:
        return account | {"status": "crashed", "reason": in_one_line(error)}, None
    if losses[-1] <= target:
        return account | {"status": "ok", "losses": losses}, training
    finite = [loss for loss in losses if math.isfinite(loss)]
    reason = f"its loss was {losses[-1]:.6g} after {len(losses) - 1:,} iterations"
    return account | {"status": "not reached", "reason": reason, "losses": finite}, None


def measure(info: TaskInfo, number: int) -> Iterator[dict[str, Any]]:
    """Measure every trainer: yield the name of each before its turn, and at last what was found.

    A trainer's `seconds` are the median of this process.
    """
    task = make_task(info)
    best = validation_loss(task.data, closed_form(task.data))
    target = (1 + info.tolerance) * best
    order = random.Random(1_000 * info.seed + number)
    accounts, ready = {}, {}
    for name in order.sample(list(TRAINERS), len(TRAINERS)):
        yield {"trainer": name}
        accounts[name], training = _prepare(name, task, target)
        if training is not None:
            ready[name] = training
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(info.repeats):
        for name in order.sample(list(ready), len(ready)):
            yield {"trainer": name}
            training, account = ready[name], accounts[name]
            iterations = len(account["losses"]) - 1
            training.restart()
            with gc_paused():
                one_s = time_batch(training.iterate, iterations, "cpu").seconds
            seconds[name].append(iterations * one_s)
            loss = validation_loss(task.data, training.parameters())
            if not loss <= target * (1 + 1e-9):
                reason = f"when timed, it ended at a loss of {loss:.6g}, not at the target"
                account |= {"status": "not reached", "reason": reason}
    for name, some in seconds.items():
        if accounts[name]["status"] == "ok":
            accounts[name]["seconds"] = [statistics.median(some)]
    yield {"closed_form_loss": best, "target": target, "settings": settings(),
           "packages": packages(), "results": list(accounts.values())}  # fmt: skip


def main(task: str, number: str) -> None:
    """Measure one process and print its events; see the module."""
    for event in measure(TaskInfo.model_validate_json(task), int(number)):
        print(json.dumps(event), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
