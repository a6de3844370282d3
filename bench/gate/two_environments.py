"""A block over two environments: a process for each side, which take turns at their slices.

Two versions of torch cannot share a process. Each side waits, asleep, until the parent asks it for
a slice, so that only one works at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from ..measure.paired import interleave
from ..measure.timing import TimedBatch
from .process import Child
from .worker import NEW, OLD, Entry, Spec, values_of


class DiedError(Exception):
    """A process that died while it was asked for a slice."""


class Remote:
    """A call in another process, made ready there for slices."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.about_s, self.calls = 0.0, 0

    def get_ready(self) -> None:
        """Wait until it stands before its next case.

        Raises:
            DiedError: It died on the way.
        """
        while (event := self.child.read()) is not None and event["event"] != "ready":
            if event["event"] == "died":
                raise DiedError(event["reason"])
        if event is None:
            raise DiedError("it ended early")
        self.about_s, self.calls = event["about_s"], event["calls"]

    def time_batch(self) -> TimedBatch:
        """Have one slice timed there.

        Raises:
            DiedError: It died at it.
        """
        event = self.child.ask("slice")
        if event["event"] == "died":
            raise DiedError(event["reason"])
        return TimedBatch(event["seconds"], event["cpu_seconds"])


def measure_apart(
    spec: Spec, entries: Sequence[Entry], pythons: tuple[str, str], control: str | None
) -> dict[str, dict[str, Any]]:
    """Measure the cases in two fresh processes that take turns, as `block.compare` does in one.

    Args:
        spec: The sides, the seed and what is added to the new side's calls.
        entries: The cases.
        pythons: The old side's interpreter and the new side's.
        control: The case whose old side is also held against itself, in a third process.

    Returns:
        What was found, by the case's name; `{"died": reason}` where a process died: the cases
        after it are left out.
    """
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        old, new = (
            Remote(stack.enter_context(Child(spec.serving(which, entries), python)))
            for which, python in zip((OLD, NEW), pythons, strict=True)
        )
        for entry in entries:
            try:
                old.get_ready()
                new.get_ready()
                found[entry.name] = values_of(interleave(new, old, seed=spec.seed))
                if entry.name == control:
                    with Child(spec.serving(OLD, [entry]), pythons[0]) as third:
                        again = Remote(third)
                        again.get_ready()
                        same = interleave(again, old, seed=spec.seed)
                    found[entry.name]["control"] = same.log_ratio
                for side in (old, new):
                    side.child.ask("next")
            except DiedError as error:
                found[entry.name] = {"died": str(error)}
                break
    return found
