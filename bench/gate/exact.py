"""What the gate compares exactly: a metric is one entry of `EXACT_METRICS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mlr import Case

from ..machine.devices import device_of
from ..measure.memory import Memory
from .verdict import OK, STATUS, Difference


class Examination(NamedTuple):
    """What a kernel costs on a case: operations of torch's products, and memory of one call."""

    flops: int
    memory: Memory


def _block_slack(case: Case) -> int:
    """Return the slack of a caching allocator, which rounds each block up to 512 bytes."""
    return device_of(case.device).block_slack_bytes


class ExactMetric(NamedTuple):
    """A number that does not vary: the head fails where it exceeds the base's by over a slack."""

    name: str  # its key in stored verdicts
    words: str  # what messages call it
    read: Callable[[Examination], int]
    slack: Callable[[Case], int] = lambda case: 0  # how much more passes on a case


EXACT_METRICS = (
    ExactMetric("peak_bytes", "bytes at peak", lambda one: one.memory.peak_bytes, _block_slack),
    ExactMetric("leak_bytes", "bytes leaked by a call", lambda one: one.memory.leak_bytes,
                _block_slack),
    ExactMetric("flops", "operations of a call", lambda one: one.flops),
)  # fmt: skip


class Verified(NamedTuple):
    """What the verification of one version found on a case."""

    status: str  # `ok`, `wrong`, `unsupported`, `oom` or `crashed`
    reason: str | None = None  # why it is not `ok`
    metrics: Mapping[str, int] = {}  # the exact metrics by name, where it is

    def __str__(self) -> str:
        """Write the status with its reason."""
        return f"{self.status}: {self.reason}" if self.reason else self.status


def compare_exactly(
    case: Case, base: Verified, head: Verified
) -> tuple[list[Difference], list[Difference]]:
    """Return the differences that fail a case, and those that are worth a note."""
    if base.status != OK:
        words = f"was {base}" if head.status == OK else str(head)
        return [], [Difference(STATUS, str(base), str(head), words)]
    if head.status != OK:
        return [Difference(STATUS, OK, str(head), str(head))], []
    failures, changes = [], []
    for name, words, _, slack in EXACT_METRICS:
        old, new = base.metrics[name], head.metrics[name]
        difference = Difference(name, old, new, f"{words}: {new:,} instead of {old:,}")
        if new > old + slack(case):
            failures.append(difference)
        elif new < old:
            changes.append(difference)
    return failures, changes
