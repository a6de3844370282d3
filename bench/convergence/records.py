"""Stored convergence runs: what such a file holds, and reading it. Needs no torch.

An alias is the name of a field in the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..store.columns import Above, Amount, Name, Size, Slug
from ..store.files import load_latest
from ..store.schema import Commit


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, populate_by_name=True)


class TaskInfo(_Model):
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


class TrainerResult(_Model):
    """One trainer: its loss before and after each iteration, the seconds in each process.

    `iteration` says what one of its iterations is.
    """

    trainer: Name
    iteration: Name
    status: Literal["ok", "not reached", "unsupported", "crashed"]
    reason: Annotated[str, Field(max_length=1000)] | None = None
    losses: list[Amount] = []
    seconds: list[Above] = []

    @property
    def iterations(self) -> int:
        """How many it took."""
        return len(self.losses) - 1


class ConvergenceRun(_Model):
    """How long each trainer took to reach the target loss, on one machine and one data set."""

    version: Literal[2] = Field(alias="schema")
    datetime: Name
    commit_info: Commit
    machine: Slug
    settings: dict[str, Any]
    packages: dict[str, str]
    task: TaskInfo
    closed_form_loss: Above
    target: Above
    results: list[TrainerResult]

    @property
    def name(self) -> str:
        """How the names of its figures begin: its machine and task."""
        task = self.task
        return (
            f"{self.machine}-fit-{task.dtype}-{task.rows}x{task.features}x{task.outputs}"
            f"-lr{task.lr:g}-batch{task.batch_size}-seed{task.seed}"
        )


def latest_convergence_runs(folder: Path) -> list[ConvergenceRun]:
    """Return the newest run of each machine and task below a folder, in a fixed order."""
    return load_latest(
        folder, ConvergenceRun, "a convergence run", lambda one: (one.machine, str(one.task))
    )
