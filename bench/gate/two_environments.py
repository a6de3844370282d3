"""A block over two environments: a process for each version, which take turns at their slices.

Two versions of torch cannot share a process. Each process waits, asleep, until the parent asks it
for a slice, so that only one works at a time. This module is both: the parent's part, and the
program of the processes, `python -m bench.gate.two_environments`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

from mlr import Problem

from ..measure.paired import LocalTarget, interleave
from ..measure.timing import TimedBatch
from .blocks import CASE_TIMEOUT_S, CrashError, Worker, started
from .spec import BASE, HEAD, KernelCase, Spec
from .worker import Kernels, ratio_event, say, work

TIMEOUT_S = 3 * CASE_TIMEOUT_S  # a process also waits for the two others, to start or to get ready


class RemoteTarget:
    """A call in another process, made ready there for slices; its process must not end at it."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.about_s, self.calls = 0.0, 0

    def get_ready(self) -> None:
        """Wait until it stands before its next case."""
        event = self.worker.expect("ready")
        self.about_s, self.calls = event["about_s"], event["calls"]

    def time_batch(self) -> TimedBatch:
        """Have one slice timed there."""
        event = self.worker.ask({"do": "slice"})
        assert event is not None
        return TimedBatch(event["seconds"], event["cpu_seconds"])


def interleave_processes(spec: Spec, pythons: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Measure the cases in two fresh processes that take turns, as `worker.compare` does in one.

    Args:
        spec: The versions, the cases and the seed; the control takes a third process.
        pythons: The interpreter of each version.

    Returns:
        As `blocks.run_block`, without the kernels.
    """

    def serving(name: str, *only: KernelCase) -> AbstractContextManager[Worker]:
        own = replace(spec, folders={name: spec.folders[name]}, cases=only or spec.cases)
        return started(own, __name__, python=pythons[name], timeout_s=TIMEOUT_S)

    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        base, head = (RemoteTarget(stack.enter_context(serving(one))) for one in (BASE, HEAD))
        for one in spec.cases:
            try:
                base.get_ready()
                head.get_ready()
                found[one.name] = ratio_event(interleave(head, base, seed=spec.seed))
                if one.name == spec.control:
                    with serving(BASE, one) as third:
                        again = RemoteTarget(third)
                        again.get_ready()
                        control = interleave(again, base, seed=spec.seed).log_ratio
                    found[one.name]["control"] = control
                for target in (base, head):
                    target.worker.ask({"do": "next"})
            except CrashError as error:
                found[one.name] = {"crashed": str(error)}
                break
    return found


def serve(one: KernelCase, kernels: Kernels, spec: Spec) -> dict[str, Any]:
    """Get a kernel's call ready, then do what the parent asks on the standard input."""
    (kernel,) = kernels.values()
    problem = Problem(one.case)
    problem.seed = spec.seed
    ready = LocalTarget(kernel.bind(problem), one.case.device)
    say("ready", about_s=ready.about_s, calls=ready.calls)
    for line in sys.stdin:
        if json.loads(line)["do"] == "next":
            break
        say("slice", **ready.time_batch()._asdict())
    return {}


if __name__ == "__main__":
    work(serve)
