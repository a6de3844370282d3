"""Processes of the gate, seen from their parent: given a specification, read by events.

A block is one fresh process in which both versions take turns at their slices; or one for each
version, since two versions of torch, and of some packages, cannot share a process. Of these each
waits, asleep, until the parent asks it for a slice, so that only one works at a time.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mlr import Case

from ..common.errors import UserError
from ..machine.environment import pinned_environment
from ..measure.ratio import TimedTarget, interleave
from ..measure.timing import TimedBatch
from ..run.process import Event, WorkerProcess

BASE, HEAD = "base", "head"
CONTROL = "control"  # another copy of the base
WORKER = f"{__package__}.worker"
CASE_TIMEOUT_S = 60.0  # of one case in one block
KernelTables = dict[str, dict[str, str]]  # by version: the operation of each kernel by its key
Found = dict[str, dict[str, Any]]  # what a block says of each case, by name


@dataclass(frozen=True)
class KernelCase:
    """One kernel on one case; the kernel by its key, since each version has its own."""

    kernel: str
    case: Case

    @property
    def name(self) -> str:
        """Its id, `matmul-cpu-float64-33x6x3`: a key has one operation."""
        return f"{self.kernel}-{self.case.id}"


@dataclass(frozen=True)
class Spec:
    """What a process is to do, as JSON on its standard input."""

    folders: Mapping[str, str]  # of the versions to load, by `base`, `head` or `control`
    cases: Sequence[KernelCase]  # in their order
    seed: int = 0  # of the inputs and of the order of slices
    control: str | None = None  # the case whose base is also timed against a copy of it
    threads: int | None = None  # that the process has; None for those of the environment
    kernel_files: Sequence[str] = ()  # of the user's, for the harness to know their operations
    packages: Sequence[str] = ()  # that are compared, by their paths; none of `mlr` itself
    alone: bool = False  # whether each version of them has a process to itself


SPEC = TypeAdapter(Spec)  # to and from JSON


class CrashError(Exception):
    """A process ended while it was at a case; the text says how."""


class Worker(WorkerProcess):
    """A process that works on a specification, and a call that is made ready there for slices."""

    kernels: KernelTables  # of the versions that it has loaded
    case: str | None = None  # that it is at
    about_s, calls, first_call_s = 0.0, 0, 0.0  # of its call

    def read(self) -> Event | None:
        """Return the next event; None after a good end.

        Raises:
            CrashError: It ended while it was at a case.
            UserError: A version cannot be used, it failed outside of any case, or it prints.
        """
        event = super().read()
        if event is None:
            end = self.end()
            if self.case is not None:
                raise CrashError(end.reason)
            if end.code != 0:
                raise UserError(f"the measuring process of {self._command[0]} failed: {end.reason}")
        elif event["event"] == "refused":
            raise UserError(event["reason"])
        elif event["event"] in ("start", "done"):
            self.case = event["case"] if event["event"] == "start" else None
        return event

    def get_ready(self) -> None:
        """Wait until it stands before its next case; raises as `read`, or a CrashError."""
        for event in self.events():
            if event["event"] == "ready":
                self.about_s, self.calls, self.first_call_s = event["of_call"]
                return
        raise CrashError("it ended early")

    def time_batch(self) -> TimedBatch:
        """Have one slice timed there."""
        event = self.ask({"do": "slice"})
        assert event is not None
        return TimedBatch(event["seconds"], event["cpu_seconds"])


@contextmanager
def started(
    spec: Spec,
    *module: str,
    python: str | None = None,
    timeout_s: float = CASE_TIMEOUT_S,
    is_loaded: bool = True,
) -> Iterator[Worker]:
    """Give a process that runs a module, as after `python -m`, on a specification.

    A case whose kernel a version lacks is left out. `timeout_s` is how long it may be silent. It
    has loaded its versions and told their kernels, unless that is not waited for. Raises as
    `Worker.read`, and a UserError if its Python cannot be run.
    """
    env = pinned_environment(os.environ, spec.threads)
    if len(spec.folders) == 1:  # what torch builds when it is called it looks for by its name alone
        env["TORCH_EXTENSIONS_DIR"] = str(Path(*spec.folders.values(), ".torch-extensions"))
    with Worker([python or sys.executable, "-m", *module], timeout_s, env=env) as worker:
        worker.send(SPEC.dump_python(spec, mode="json"))
        worker.kernels = (worker.read() if is_loaded else None) or {}
        yield worker


def run_block(spec: Spec, *module: str, python: str | None = None) -> tuple[KernelTables, Found]:
    """Measure in one process, or in another after each case that ended one: `{"crashed": why}`."""
    found: Found = {}
    while True:
        left = [one for one in spec.cases if one.name not in found]
        with started(replace(spec, cases=left), *module, python=python) as worker:
            try:
                for event in worker.events():
                    if event.pop("event") == "done":
                        found[event.pop("case")] = event
                return worker.kernels, found
            except CrashError as error:
                found[str(worker.case)] = {"crashed": str(error)}


def measure_block(spec: Spec, pythons: Mapping[str, str]) -> Found:
    """Time the versions in turns, in one process or, where they are given, in each one's Python."""
    if not pythons:
        return run_block(spec, WORKER, "compare")[1]

    def serving(name: str, *cases: KernelCase) -> AbstractContextManager[Worker]:
        own = replace(spec, folders={name: spec.folders[name]}, cases=cases)
        # Each also waits for the two others, to start or to get ready.
        python, timeout_s = pythons.get(name, pythons[BASE]), 3 * CASE_TIMEOUT_S
        return started(own, WORKER, "serve", python=python, timeout_s=timeout_s, is_loaded=False)

    found: Found = {}
    # All processes start at once; that of the control has one case, which is the first.
    cases = sorted(spec.cases, key=lambda one: one.name != spec.control)
    while left := [one for one in cases if one.name not in found]:
        with ExitStack() as stack:
            both = {name: stack.enter_context(serving(name, *left)) for name in (BASE, HEAD)}
            ready = dict(both)
            if left[0].name == spec.control:
                ready[CONTROL] = stack.enter_context(serving(CONTROL, left[0]))
            try:
                for one in left:
                    for worker in ready.values():
                        worker.get_ready()
                    first_call_s = {name: ready[name].first_call_s for name in ready}
                    found[one.name] = compare_calls(ready, first_call_s, seed=spec.seed)
                    for worker in ready.values():
                        worker.ask({"do": "next"})
                    ready = both
            except CrashError as error:
                found[one.name] = {"crashed": str(error)}
    return found


def sharing_fails(spec: Spec) -> str | None:
    """Load all versions into one process, call each kernel once, and say what is against that.

    None where nothing is: where nothing raises, ends the process, asks for a module in a way that
    does not tell whose, changes what all code of a process shares, or loads a native library for
    one version in place of another's.
    """
    try:
        with started(spec, WORKER, "attempt", timeout_s=3 * CASE_TIMEOUT_S) as worker:
            for _ in worker.events():
                pass
    except (CrashError, UserError) as error:
        return str(error)
    return None


def compare_calls(
    ready: Mapping[str, TimedTarget], first_call_s: Mapping[str, float], **options: Any
) -> dict[str, Any]:
    """Time the head's call against the base's, and where it is ready that of a copy of the base."""
    pair = interleave(ready[HEAD], ready[BASE], **options)
    times = {"head_s": pair.f_median_s, "base_s": pair.g_median_s, "first_call_s": first_call_s}
    found = {"log_ratio": pair.log_ratio, **times}
    if CONTROL in ready:
        found["control"] = interleave(ready[CONTROL], ready[BASE], **options).log_ratio
    return found
