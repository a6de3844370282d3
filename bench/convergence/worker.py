"""One pass of the fit curves: every trainer, in this process, until its loss is low enough.

How many legs a trainer takes is found first, with the loss after each; then the legs are timed in a
row, with nothing in between, several times over and in turns with the other trainers.

    python -m bench.convergence.worker '{"rows": 10000, …}'    one JSON object a line
"""

from __future__ import annotations

import json
import math
import random
import sys
from dataclasses import asdict, dataclass
from typing import Any

from mlr.case import DTYPES
from mlr.data import make_dataset

from ..common.errors import in_one_line
from ..common.garbage import gc_paused
from ..machine.info import packages, settings
from ..measure.timing import time_batch
from .trainers import TRAINERS, Task, Trainer, Training, closed_form, validation_loss

MOST_LEGS = 2_000
LONGEST_S = 5.0  # of all legs of one training
VALID_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is trained on, until when, and how often that is timed.

    Attributes:
        rows: Training rows.
        features: n.
        outputs: o.
        dtype: `float32` or `float64`.
        lr: The learning rate.
        batch_size: Rows of a mini-batch.
        within: The share by which the loss may be above the closed form's.
        repeats: Trainings of each trainer that are timed.
        seed: Seeds the data; with the pass's number the order.
        number: The number of the pass.
    """

    rows: int
    features: int
    outputs: int
    dtype: str
    lr: float
    batch_size: int
    within: float = 0.01
    repeats: int = 3
    seed: int = 0
    number: int = 0

    def task(self) -> Task:
        """Make the data."""
        data = make_dataset(
            n_samples=self.rows + VALID_ROWS,
            n_features=self.features,
            n_targets=self.outputs,
            n_train=self.rows,
            dtype=DTYPES[self.dtype],
            seed=self.seed,
        )
        return Task(data, self.lr, self.batch_size)


def until(trainer: Trainer, training: Training, task: Task, target: float) -> list[float]:
    """Train until the loss is at most the target; return it before the first leg and after each.

    Ends early where a leg changes nothing any more, where the loss is no number, or where it takes
    too many legs or too long.
    """
    losses = [validation_loss(task.data, training.parameters())]
    spent = 0.0
    while losses[-1] > target and len(losses) <= MOST_LEGS and spent < LONGEST_S:
        spent += time_batch(training.leg, 1, "cpu").seconds
        losses.append(validation_loss(task.data, training.parameters()))
        if trainer.closed or not math.isfinite(losses[-1]):
            break
    return losses


def _say(**content: Any) -> None:
    print(json.dumps(content), flush=True)


def _ready(name: str, task: Task, target: float) -> tuple[Training, int] | None:
    """Get a trainer ready, find how many legs it takes, and say so; None if it never gets there."""
    trainer = TRAINERS[name]
    said: dict[str, Any] = {"trainer": name, "leg": trainer.leg, "status": "ok", "reason": None}
    reason = trainer.unsupported(task)
    if reason is not None:
        _say(**said | {"status": "unsupported", "reason": reason})
        return None
    try:
        training = trainer.start(task)
        training.leg()  # what compiles, compiles now
        training.restart()
        losses = until(trainer, training, task, target)
    except Exception as error:
        _say(**said | {"status": "crashed", "reason": in_one_line(error)})
        return None
    legs = len(losses) - 1
    if losses[-1] <= target:
        _say(**said, losses=losses)
        return training, legs
    finite = [loss for loss in losses if math.isfinite(loss)]
    reason = f"its loss was {losses[-1]:.6g} after {legs:,} legs"
    _say(**said | {"status": "not reached", "reason": reason}, losses=finite)
    return None


def main(text: str) -> None:
    """Measure one pass and say what was found; see the module."""
    wanted = Wanted(**json.loads(text))
    task = wanted.task()
    best = validation_loss(task.data, closed_form(task.data))
    target = (1 + wanted.within) * best
    _say(closed_form_loss=best, target=target, settings=settings(), packages=packages(),
         task=asdict(wanted))  # fmt: skip
    order = random.Random(1_000 * wanted.seed + wanted.number)
    names = order.sample(list(TRAINERS), len(TRAINERS))
    ready = {name: found for name in names if (found := _ready(name, task, target)) is not None}
    for _ in range(wanted.repeats):
        for name in order.sample(list(ready), len(ready)):
            training, legs = ready[name]
            training.restart()
            with gc_paused():
                seconds = legs * time_batch(training.leg, legs, "cpu").seconds
            loss = validation_loss(task.data, training.parameters())
            _say(timed=name, seconds=seconds, loss=loss)


if __name__ == "__main__":
    main(sys.argv[1])
