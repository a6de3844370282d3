"""All-reduces by themselves: of many sizes, and after work of many lengths."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from mlr.distributed import Workers

from ..measure.timing import time_parts

# Bytes of the sums that the model of the network is fitted to, and between them what tests it.
MESSAGES = tuple(64 * 2**power for power in range(17))
# Rows of the product before a sum: of some 0.05 to 10 ms; likewise.
WORKS = tuple(500 * 2**power for power in range(9))
MESSAGE, WORK = 1024, 2000  # of the sums that differ in the other
WORK_COLUMNS = 64
SUMS = 8  # timed at once
SHORTEST_S = 1e-9  # that the sum of a step is said to take


@dataclass
class Kind:
    """Sums of one size after one work, over so many workers, and what each taking of them took."""

    world: int
    swept: str  # what differs from the others, `bytes` or `work`
    size: int
    rows: int
    fitted: bool
    parts: list[list[list[float]]] = field(default_factory=list)  # here, since it was put together
    seconds: list[float] = field(default_factory=list)
    work_s: list[float] = field(default_factory=list)

    def stored(self) -> dict[str, Any]:
        """Return it as a scaling run has it."""
        return {
            "world": self.world, "swept": self.swept, "bytes": self.size, "seconds": self.seconds,
            "work_s": float(np.median(self.work_s)), "fitted": self.fitted,
        }  # fmt: skip


class Sums:
    """Sums over the first two workers, four, and so on, and over all.

    Each comes after work, as in a step, and is what both take beyond the slowest worker's work.
    They are taken between the steps of a scaling run, so that they see the machine as steps do.
    """

    def __init__(self, workers: Workers, seed: int) -> None:
        """Form the groups; all workers of the job must do so at once."""
        self.workers = workers
        worlds = sorted({workers.world, *(2**k for k in range(1, workers.world.bit_length()))})
        self.groups = {world: workers.first(world) for world in worlds}
        self.kinds = [kind for world in worlds for kind in _kinds(world)]
        self.work = torch.ones(WORKS[-1], WORK_COLUMNS, device=workers.device)
        self._order = random.Random(seed)
        self._next: list[Kind] = []

    def take(self, count: int) -> None:
        """Take the next so many kinds, in an order that is the same on all workers."""
        for _ in range(count):
            if not self._next:
                self._next = self._order.sample(self.kinds, len(self.kinds))
            kind = self._next.pop()
            self.workers.wait()
            if self.workers.rank < kind.world:
                kind.parts.append(self._timed(kind))
            if kind.world < self.workers.world:
                self.workers.tell(None)  # waits without a sum, which would take from the others

    def gather(self) -> None:
        """Put together what the workers have taken; all of the job must do so at once."""
        told: Any = self.workers.tell([kind.parts for kind in self.kinds])
        for place, kind in enumerate(self.kinds):
            # By worker, taking, call and part.
            parts = np.array([one[place] for one in told[: kind.world]])
            if parts.size:
                kind.seconds += beyond(parts.sum(axis=-1), parts[..., 0]).tolist()
                kind.work_s += parts[..., 0].max(axis=0).mean(axis=-1).tolist()
            kind.parts.clear()

    def stored(self) -> list[dict[str, Any]]:
        """Return what was put together, as a scaling run has it."""
        return [kind.stored() for kind in self.kinds]

    def _timed(self, kind: Kind) -> list[list[float]]:
        """Return the seconds of work and sum of each call; as many before pay for the caches."""
        work = self.work[: kind.rows]
        values = torch.zeros(kind.size // 8, dtype=torch.float64, device=self.work.device)
        parts = (
            partial(torch.mm, work.T, work),
            partial(dist.all_reduce, values, group=self.groups[kind.world]),
        )
        return time_parts(parts, 2 * SUMS, self.work.device.type)[SUMS:]


def _kinds(world: int) -> list[Kind]:
    sizes = [Kind(world, "bytes", size, WORK, not at % 2) for at, size in enumerate(MESSAGES)]
    return sizes + [Kind(world, "work", MESSAGE, rows, not at % 2) for at, rows in enumerate(WORKS)]


def beyond(whole: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return what a call takes beyond what its slowest worker does by itself, in the mean.

    Args:
        whole: Seconds of each call, by worker first and by call last.
        own: Those of them that a worker spends by itself.
    """
    found: np.ndarray = whole.mean(axis=-1).max(axis=0) - own.max(axis=0).mean(axis=-1)
    longest: np.ndarray = np.maximum(found, SHORTEST_S)
    return longest
