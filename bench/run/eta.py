"""How far a run is, and how long the rest of it takes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from ..common.provenance import parse_utc
from ..common.units import format_ratio
from ..store.runs import find_runs, load_heads, load_run
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
    wanted = [name for name in state.plan.wanted if name not in state.failures]
    samples = {name: state.samples.get(name, {}) for name in wanted}
    ends = (state.failures.get(name) or state.done.get((0, name)) for name in state.plan.wanted)
    timed = [event for event in state.done.values() if event.sample is not None]
    return RunProgress(
        total=len(state.plan.wanted) + sum(map(state.processes_of, wanted)),
        done=sum((0, name) in state.done for name in state.plan.wanted)
        + sum(min(len(samples[name]), state.processes_of(name)) for name in wanted),
        process=state.current.process if state.current else 0,
        processes=state.plan.processes,
        statuses=Counter(end.outcome["status"] for end in ends if end is not None),
        contended=sum(event.sample["contended"] for event in timed if event.sample),
        reruns=sum(event.process > state.plan.processes for event in timed),
        wall_s=state.wall_s,
        overhead=Cost(**cost_of(state)).overhead if state.wall_s > 0 else 0.0,
        left_s=seconds_left(state),
        latest=_describe(timed[-1]) if timed else "",
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
    spent = {key: sum(event.spent.values()) for key, event in state.done.items()}
    if not sum(spent.values()):
        return None
    timed: dict[str, list[float]] = {}
    for (process, name), seconds in spent.items():
        if process:
            timed.setdefault(name, []).append(seconds)
    usual, left = fmean(spent.values()), 0.0
    for name in state.plan.wanted:
        if name not in state.failures:
            left += usual * ((0, name) not in spent)
            processes = state.processes_of(name) - len(timed.get(name, []))
            left += fmean(timed.get(name, [usual])) * max(0, processes)
    return float(left * state.wall_s / sum(spent.values()))


def seconds_per_sample(folder: Path, machine: str) -> float | None:
    """Return the seconds of a sample in the newest run of a machine; None where none says.

    A verification counts as a sample.
    """
    own = folder / machine
    heads = load_heads(find_runs(own) if own.is_dir() else [])
    for path in sorted(heads, key=lambda path: parse_utc(heads[path].datetime), reverse=True):
        run = load_run(path)
        if run.cost is not None and run.benchmarks:
            return run.cost.wall_s / sum(1 + len(one.samples) for one in run.benchmarks)
    return None
