"""A shard of a plan as it is written, and what tells one plan from another. Needs nothing else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple


class PlanShard(NamedTuple):
    """One of `total` parts of a plan, by its number from 1 on."""

    number: int
    total: int

    @classmethod
    def read(cls, text: str) -> PlanShard:
        """Read a shard as it is written: `2/3`.

        Raises:
            ValueError: It is none, or there is no such part.
        """
        match = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text, re.ASCII)
        if match is None or int(match[1]) > int(match[2]):
            raise ValueError(f"takes i/k with i from 1 to k, say 2/3; got {text[:60]!r}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        """Write it as it is read."""
        return f"{self.number}/{self.total}"

    @property
    def suffix(self) -> str:
        """What the name of its file ends in: `-2of3`."""
        return f"-{self.number}of{self.total}"


def plan_key(names: Iterable[str], grid: str, seed: int) -> str:
    """Return what tells a plan from others.

    Args:
        names: The full names of its cases, each with its kernel, in the plan's order.
        grid: What it was made from, which says how long a call may take.
        seed: That of the inputs.
    """
    text = "\n".join([grid, str(seed), *names])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
