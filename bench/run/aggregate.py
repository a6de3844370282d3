"""Samples, one a process -> a benchmark's columns and warnings -> the content of a run file."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pytest_benchmark import __version__ as plugin_version
from pytest_benchmark.stats import Stats

from ..stats.estimators import ERROR, Estimate, Prior, estimate, repeated_error
from ..store.bounds import best_ceilings, beyond_bounds
from ..store.columns import MEASURED, OF_PLAN, Column, reduce_samples
from ..store.schema import SCHEMA, Ceilings, Cost, Machine, ceilings_key
from .journal import Done, RunState
from .stopping import SPEEDUPS, Sample, known, priors_by_threads, uncontended

# What a sample, or the samples of a benchmark together, are warned of.
MIN_ROUNDS = 5  # over all processes
MIN_CPU_UTILISATION = 0.5  # CPU seconds per second of a call on the CPU
MIN_WALL_RATIO = 0.9  # of the device's own time, measured apart: no call takes less than that


def warnings(samples: Sequence[Sample], outcome: Mapping[str, Any]) -> list[str]:
    """Say in plain words what is doubtful about the times of a benchmark.

    That processes differ is no doubt about the kernel: quartiles and intervals show it. Nor is that
    pytest-benchmark's loop takes another time than slices between those of the baseline, which
    leaves less of large inputs in the caches; a kernel that tells the two apart is found by
    `avoided_work`.
    """
    median = statistics.median(known(samples, "paired_s") or known(samples, "median_s"))
    cold_s = statistics.median(known(samples, "cold_s") or [math.inf])
    times = {"roofline_s": median, "roofline_cold_s": cold_s}
    shares = [seconds / (outcome.get(name) or seconds) for name, seconds in times.items()]
    found = [*beyond_bounds(*shares)]
    busy_s = statistics.median(known(samples, "device_hot_s") or [median])
    if median < MIN_WALL_RATIO * busy_s:
        found.append(f"takes less time than the device is busy: {median / busy_s:.2f} of it")
    rounds = sum(sample["rounds"] for sample in samples)
    if rounds < MIN_ROUNDS:
        found.append(f"few rounds: {rounds} over all processes")
    used = known(samples, "cpu_utilisation")
    if used and (share := statistics.median(used)) < MIN_CPU_UTILISATION:
        found.append(f"idle while timed: {share:.0%} of the time on a processor; does it sleep?")
    return found


def summarise(
    outcome: Mapping[str, Any],
    samples: Sequence[Sample],
    priors: Mapping[str, Prior | None] | None = None,
    error: float = ERROR,
) -> dict[str, Any]:
    """Return a benchmark's columns from its verification and its samples.

    `priors` are by the column of a speedup; `error` is how often an interval may miss it.
    """
    used = uncontended(samples)
    speedups = {"speedup": Estimate(0.0, None, None)}  # that of a baseline
    for name, column in SPEEDUPS.items():
        if logs := known(used, column):
            speedups[name] = estimate(logs, (priors or {}).get(name), error)
    columns = [_speedup_columns(name, found) for name, found in speedups.items()]
    return {
        **outcome,
        "processes": len(used),
        "contended_processes": sum(sample["contended"] for sample in samples),
        **{name: value for found in columns for name, value in found.items()},
        **reduce_samples(used),
        "warnings": [*outcome["warnings"], *warnings(used, outcome)],
    }


def _speedup_columns(name: str, found: Estimate) -> dict[str, float | None]:
    names = (name, f"{name}_low", f"{name}_high")
    ends = (None if log is None else math.exp(log) for log in found)
    return dict(zip(names, ends, strict=True))


def with_bounds(outcome: Mapping[str, Any], ceilings: Mapping[str, Ceilings]) -> dict[str, Any]:
    """Return an outcome with the roofline bounds by the best of all processes."""
    known = ceilings.get(ceilings_key(outcome["device"], outcome.get("threads", 1)))
    if known is None:
        return dict(outcome)
    work = [outcome[name] for name in ("dtype", "least_flops", "least_bytes", "input_bytes")]
    if None in work:  # not declared
        return dict(outcome)
    hot_s, cold_s, _ = known.roofline(*work)
    return {**outcome, "roofline_s": hot_s, "roofline_cold_s": cold_s}


def compose(state: RunState) -> dict[str, Any]:
    """Put a run together from its journal."""
    head, wanted, samples = state.heads[0], state.plan.wanted, state.samples()
    priors = {name: priors_by_threads(samples, wanted, log) for name, log in SPEEDUPS.items()}
    phases = [name for name in Cost.model_fields if name != "wall_s"]
    spent = {name: sum(end.spent.get(name, 0.0) for end in state.ends) for name in phases}
    machines = [Machine.model_validate(head["machine"]) for head in state.heads]
    ceilings = best_ceilings([one.ceilings for one in machines])
    reached = {name: one.model_dump(exclude_none=True) for name, one in ceilings.items()}
    columns = {
        name: summarise(
            with_bounds(state.ended[name][0].outcome, ceilings),
            samples[name],
            {speedup: of_threads[threads] for speedup, of_threads in priors.items()},
            repeated_error(*state.processes_of(name)),
        )
        if name in samples
        else _without_numbers(state.failures[name])
        for name, threads in wanted.items()
    }
    return {
        **head,
        "benchmarks": [
            _benchmark(state.timings(name)[0].benchmark, some, columns[name])
            for name, some in samples.items()
        ],
        "datetime": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": plugin_version,
        "schema": SCHEMA,
        "cost": {"wall_s": state.wall_s, **spent},
        "outcomes": [_outcome(name, found) for name, found in columns.items()],
        "machine": head["machine"] | {"ceilings": reached},
        "settings": head["settings"]
        | {"processes": _processes(state), "threads": sorted({*wanted.values()})},
    }


def _outcome(name: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was planned and what became of it: what was measured its benchmark has."""
    apart = MEASURED if columns["status"] == "ok" else ()
    return {"fullname": name, **_without(columns, apart)}


def _without(columns: Mapping[str, Any], apart: Iterable[Column]) -> dict[str, Any]:
    names = {column.name for column in apart}
    return {name: value for name, value in columns.items() if name not in names}


def _processes(state: RunState) -> int | str:
    """Return the number of processes as the settings of a run have it: `5`, or `2 to 5`."""
    least, most = state.plan.least, state.plan.processes
    return f"{least} to {most}" if least else most


def _without_numbers(failed: Done) -> dict[str, Any]:
    where = f"in process {failed.process}: " if failed.process else ""
    return failed.outcome | {"reason": f"{where}{failed.outcome['reason']}"}


def _benchmark(
    entry: dict[str, Any], samples: Sequence[Sample], columns: dict[str, Any]
) -> dict[str, Any]:
    """Return pytest-benchmark's entry of a benchmark, with its statistics over the processes.

    Its samples are stored as columns, whose names are then in the file once a benchmark. What was
    planned its outcome has.
    """
    stats = Stats()
    for sample in uncontended(samples):
        stats.update(sample["median_s"])
    names = dict.fromkeys(name for sample in samples for name in sample)
    values = {name: [sample.get(name) for sample in samples] for name in names}
    return {
        **entry,
        "stats": {**stats.as_dict(), "iterations": 1},
        "extra_info": {**_without(columns, OF_PLAN), "status": columns["status"]},
        "samples": {name: some for name, some in values.items() if some.count(None) < len(some)},
    }
