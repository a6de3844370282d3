"""Stored convergence runs: what such a file holds. Needs no torch."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ..store.columns import Above, Amount, Name, Size, Slug
from ..store.files import StoredResult
from ..store.schema import Record


class TaskInfo(Record):
    """What is trained on, until when, and how often that is timed."""

    rows: Size
    features: Size
    outputs: Size
    dtype: Slug
    lr: Above
    batch_size: Size
    tolerance: Above = 0.01  # the share by which the loss may be above the closed form's
    repeats: Size = 3  # trainings of each trainer that a process times
    seed: int = 0  # of the data, and with the number of the process of the order

    def __str__(self) -> str:
        """Write it in words."""
        return (
            f"{self.rows:,} rows, {self.features} → {self.outputs}, {self.dtype}, η = {self.lr:g}, "
            f"mini-batches of {self.batch_size:,}"
        )


class TrainerResult(Record):
    """One trainer: its loss before and after each iteration, the seconds in each process.

    `iteration` says what one of its iterations is.
    """

    trainer: Name
    iteration: Name
    status: Literal["ok", "not reached", "unsupported", "crashed"]
    reason: Annotated[str, Field(max_length=1000)] | None = None
    losses: list[Amount] = Field(default=[])
    seconds: list[Above] = Field(default=[])


class ConvergenceRun(StoredResult):
    """How long each trainer took to reach the target loss, on one machine and one data set."""

    what: ClassVar[str] = "a convergence run"

    task: TaskInfo
    closed_form_loss: Above
    target: Above
    results: list[TrainerResult]

    @property
    def key(self) -> tuple[str | int, ...]:
        """Its machine and task."""
        task = self.task
        sizes = f"{task.rows}x{task.features}x{task.outputs}"
        how = f"lr{task.lr:g}-batch{task.batch_size}-seed{task.seed}"
        return self.machine, f"fit-{task.dtype}-{sizes}-{how}"
