"""How far a run is, and how long the rest of it takes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from ..common.units import format_ratio
from ..store.runs import load_run
from ..store.schema import Cost
from .aggregate import cost_of
from .journal import Done, RunState


@dataclass
class RunProgress:
    """What a run has done so far, for whoever shows it; a benchmark counts once a process."""

    total: int
    done: int = 0
    process: int = 0
    processes: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    contended: int = 0
    reruns: int = 0  # samples that were taken again because others were contended
    wall_s: float = 0.0
    overhead: float = 0.0
    left_s: float | None = None  # about how long the rest takes
    latest: str = ""  # the last benchmark that got a time, and its speedup there


def progress(state: RunState) -> RunProgress:
    """Return how far a run is."""
    wanted, processes = state.plan.wanted, state.plan.processes
    ends = (state.failures.get(name) or state.done.get((0, name)) for name in wanted)
    samples = [sample for some in state.samples.values() for sample in some.items()]
    taken = (min(len(state.samples[name]), state.processes_of(name)) for name in state.timed)
    timed = (event for event in reversed(state.done.values()) if event.sample is not None)
    return RunProgress(
        total=len(wanted) + sum(map(state.processes_of, state.timed)),
        done=sum((0, name) in state.done for name in wanted) + sum(taken),
        process=state.current.process if state.current else 0,
        processes=processes,
        statuses=Counter(end.outcome["status"] for end in ends if end is not None),
        contended=sum(sample["contended"] for _, sample in samples),
        reruns=sum(number > processes for number, _ in samples),
        wall_s=state.wall_s,
        overhead=Cost(**cost_of(state)).overhead if state.wall_s > 0 else 0.0,
        left_s=seconds_left(state),
        latest=next(map(_describe, timed), ""),
    )


def _describe(event: Done) -> str:
    outcome, log = event.outcome, (event.sample or {}).get("log_speedup")
    sizes = "x".join(str(outcome[name]) for name in ("batch", "in_features", "out_features"))
    text = "-".join([*(outcome[name] for name in ("kernel", "device", "dtype")), sizes])
    return text if log is None else f"{text} {format_ratio(math.exp(log))}"


def seconds_left(state: RunState) -> float | None:
    """Return about how long what is left takes, by what was done; None where nothing was.

    A benchmark that was timed takes as long in each further process, another as long as all others
    on average.
    """
    spent = [sum(event.spent.values()) for event in state.done.values()]
    if not sum(spent):
        return None
    usual, left = fmean(spent), 0.0
    for name in state.timed:
        mine = state.seconds[name]
        left += usual * ((0, name) not in state.done)
        left += fmean(mine or [usual]) * max(0, state.processes_of(name) - len(mine))
    return left * state.wall_s / sum(spent)


def seconds_per_sample(folder: Path, machine: str) -> float | None:
    """Return the seconds of a sample in the newest run of a machine; None where none says.

    A verification counts as a sample.
    """
    for path in sorted((folder / machine).glob("*.json"), reverse=True):  # by the time in its name
        run = load_run(path)
        if run.cost is not None and run.benchmarks:
            return run.cost.wall_s / sum(1 + len(one.samples) for one in run.benchmarks)
    return None
