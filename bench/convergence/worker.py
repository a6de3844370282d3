"""One process of a convergence run: every trainer until its loss is low enough.

How many iterations a trainer takes is found first, with the loss after each; then they are timed in
a row, with nothing in between, several times over and alternating with the other trainers.

    python -m bench.convergence.worker '{"rows": 10000, …}' 0    one JSON object a line
"""

from __future__ import annotations

import json
import math
import random
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
from .trainers import TRAINERS, Task, Trainer, Training, closed_form, validation_loss

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


def train_to_target(trainer: Trainer, training: Training, task: Task, target: float) -> list[float]:
    """Train until the loss is at most the target; return it at the start and per iteration.

    Ends early where an iteration changes nothing any more, where the loss is no number, or where it
    takes too many iterations or too long.
    """
    losses = [validation_loss(task.data, training.parameters())]
    spent_s = 0.0
    while losses[-1] > target and len(losses) <= MAX_ITERATIONS and spent_s < MAX_TRAINING_S:
        spent_s += time_batch(training.iterate, 1, "cpu").seconds
        losses.append(validation_loss(task.data, training.parameters()))
        if trainer.is_direct or not math.isfinite(losses[-1]):
            break
    return losses


def _prepare(name: str, task: Task, target: float) -> tuple[dict[str, Any], Training | None]:
    trainer = TRAINERS[name]
    account = {"trainer": name, "iteration": trainer.iteration}
    if (reason := trainer.unsupported(task)) is not None:
        return account | {"status": "unsupported", "reason": reason}, None
    try:
        training = trainer.start(task)
        training.iterate()  # what compiles, compiles now
        training.restart()
        losses = train_to_target(trainer, training, task, target)
    except Exception as error:
        return account | {"status": "crashed", "reason": in_one_line(error)}, None
    if losses[-1] <= target:
        return account | {"status": "ok", "losses": losses}, training
    finite = [loss for loss in losses if math.isfinite(loss)]
    reason = f"its loss was {losses[-1]:.6g} after {len(losses) - 1:,} iterations"
    return account | {"status": "not reached", "reason": reason, "losses": finite}, None


def measure(info: TaskInfo, number: int) -> Iterator[dict[str, Any]]:
    """Measure every trainer, and yield what was found as events.

    The first has the target; then there is one for each trainer, as `TrainerResult` without times,
    and one each time a trainer is timed: `timed`, its name, `seconds`, and the `loss` it reached.
    """
    task = make_task(info)
    best = validation_loss(task.data, closed_form(task.data))
    target = (1 + info.tolerance) * best
    yield {"closed_form_loss": best, "target": target, "settings": settings(),
           "packages": packages()}  # fmt: skip
    order = random.Random(1_000 * info.seed + number)
    ready = {}
    for name in order.sample(list(TRAINERS), len(TRAINERS)):
        account, training = _prepare(name, task, target)
        yield account
        if training is not None:
            ready[name] = training, len(account["losses"]) - 1
    for _ in range(info.repeats):
        for name in order.sample(list(ready), len(ready)):
            training, iterations = ready[name]
            training.restart()
            with gc_paused():
                one_s = time_batch(training.iterate, iterations, "cpu").seconds
            loss = validation_loss(task.data, training.parameters())
            yield {"timed": name, "seconds": iterations * one_s, "loss": loss}


def main(task: str, number: str) -> None:
    """Measure one process and print its events; see the module."""
    for event in measure(TaskInfo.model_validate_json(task), int(number)):
        print(json.dumps(event), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
