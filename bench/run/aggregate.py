"""Samples, one a process -> a benchmark's columns and warnings -> the content of a run file."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pytest_benchmark import __version__ as plugin_version
from pytest_benchmark.stats import Stats

from ..common.errors import UserError
from ..stats.estimators import Estimate, Prior, common_prior, estimate, quartiles
from ..store.columns import reduce_samples
from ..store.schema import SCHEMA
from .journal import RunState

Sample = Mapping[str, Any]

PHASES = ("warm_up_s", "timing_s", "checking_s", "memory_s")

# What a sample, or the samples of a benchmark together, are warned of.
MIN_ROOFLINE_RATIO = 0.9  # of the bound: it was measured on the same noisy machine
MAX_SPREAD = 0.5  # quartiles of the processes' medians, over their median
MAX_INTERVAL_RATIO = 1.3  # high end over low end of a speedup
MIN_ROUNDS = 5  # over all processes
MAX_TIMER_DISAGREEMENT = 1.5  # between the engine's time and that of the paired slices
MIN_CPU_UTILISATION = 0.5  # CPU seconds per second of a call on the CPU


def uncontended(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples that count: the undisturbed ones, where they are two and half of all."""
    calm = [sample for sample in samples if not sample["contended"]]
    return calm if len(calm) >= max(2, len(samples) / 2) else list(samples)


def warnings(
    samples: Sequence[Sample], speedup: Estimate | None, roofline_s: float | None
) -> list[str]:
    """Say in plain words what is doubtful about the times of a benchmark."""
    found = []
    low, median, high = quartiles(sample["median_s"] for sample in samples)
    if roofline_s and median < MIN_ROOFLINE_RATIO * roofline_s:
        found.append(f"faster than the roofline bound: {median / roofline_s:.2f} of the least time")
    if len(samples) > 2 and (high - low) / median > MAX_SPREAD:
        found.append(f"processes differ: quartiles {(high - low) / median:.0%} of the median apart")
    if speedup is not None and speedup.low is not None and speedup.high is not None:
        width = math.exp(speedup.high - speedup.low)
        if width > MAX_INTERVAL_RATIO:
            found.append(f"its speedup is uncertain: high end {width:.2f} times the low end")
    rounds = sum(sample["rounds"] for sample in samples)
    if rounds < MIN_ROUNDS:
        found.append(f"few rounds: {rounds} over all processes")
    apart = _known(samples, "paired_s")
    if apart:
        factor = statistics.median(one["median_s"] / one["paired_s"] for one in apart)
        if abs(math.log(factor)) > math.log(MAX_TIMER_DISAGREEMENT):
            found.append(f"timers disagree: rounds take {factor:.2f} times paired slices")
    used = [sample["cpu_utilisation"] for sample in _known(samples, "cpu_utilisation")]
    if used and statistics.median(used) < MIN_CPU_UTILISATION:
        share = statistics.median(used)
        found.append(f"idle while timed: {share:.0%} of the time on a processor; does it sleep?")
    return found


def _known(samples: Sequence[Sample], name: str) -> list[Sample]:
    return [sample for sample in samples if sample.get(name) is not None]


def summarise(
    outcome: Mapping[str, Any], samples: Sequence[Sample], prior: Prior | None
) -> dict[str, Any]:
    """Return a benchmark's columns from its verification and its samples."""
    used = uncontended(samples)
    median = statistics.median(sample["median_s"] for sample in used)
    logs = [sample["log_speedup"] for sample in _known(used, "log_speedup")]
    speedup = estimate(logs, prior) if logs else None
    ends = speedup or (0.0, None, None)
    names = ("speedup", "speedup_low", "speedup_high")
    roofline_s = outcome.get("roofline_s")
    return {
        **outcome,
        "processes": len(used),
        "contended_processes": sum(sample["contended"] for sample in used),
        **{n: None if log is None else math.exp(log) for n, log in zip(names, ends, strict=True)},
        "efficiency": roofline_s / median if roofline_s else None,
        **reduce_samples(used),
        "warnings": [*outcome["warnings"], *warnings(used, speedup, roofline_s)],
    }


def compose(state: RunState) -> dict[str, Any]:
    """Put a run together from its journal."""
    session, plan = state.session, state.plan
    if session is None:
        raise UserError("the measuring process ended before its first case; run it again")
    settings = session.surroundings["settings"] | {"processes": plan.processes}
    prior = common_prior([_log_speedups(state, name) for name in plan.wanted])
    columns = {name: _columns(state, name, prior) for name in plan.wanted}
    return {
        "machine_info": session.machine_info,
        "commit_info": session.commit_info,
        "benchmarks": [
            _benchmark(state, name, found)
            for name, found in columns.items()
            if found["status"] == "ok"
        ],
        "datetime": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": plugin_version,
        "schema": SCHEMA,
        "cost": cost_of(state),
        "outcomes": [{"fullname": name, **found} for name, found in columns.items()],
        **session.surroundings,
        "settings": settings,
    }


def cost_of(state: RunState) -> dict[str, float]:
    """Return where the time went, in seconds, as a run file holds it."""
    ended = state.done.values()
    spent = {phase: sum(one.spent.get(phase, 0.0) for one in ended) for phase in PHASES}
    return {"wall_s": state.wall_s, **spent}


def _samples(state: RunState, name: str) -> list[dict[str, Any]]:
    return list(state.samples.get(name, {}).values())


def _log_speedups(state: RunState, name: str) -> list[float]:
    if name in state.failures:
        return []
    logs = (sample.get("log_speedup") for sample in uncontended(_samples(state, name)))
    return [value for value in logs if value is not None]


def _columns(state: RunState, name: str, prior: Prior | None) -> dict[str, Any]:
    failed = state.failures.get(name)
    if failed is None:
        return summarise(state.done[0, name].outcome, _samples(state, name), prior)
    where = f"in process {failed.process}: " if failed.process else ""
    return failed.outcome | {"reason": f"{where}{failed.outcome['reason']}"}


def _benchmark(state: RunState, name: str, columns: dict[str, Any]) -> dict[str, Any]:
    """Return pytest-benchmark's entry of a benchmark; each datum is the median of one process."""
    entries = (one.benchmark for one in state.done.values() if one.fullname == name)
    entry = next(found for found in entries if found)
    samples, stats = _samples(state, name), Stats()
    data = [sample["median_s"] for sample in uncontended(samples)]
    for value in data:
        stats.update(value)
    found = {key: getattr(stats, key) for key in stats.fields}
    return {
        **entry,
        "stats": {**found, "iterations": 1, "data": data},
        "extra_info": columns,
        "samples": samples,
    }
