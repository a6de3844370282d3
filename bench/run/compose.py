"""The state of a finished run -> the content of its run file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pytest_benchmark import __version__ as plugin_version
from pytest_benchmark.stats import Stats

from ..common.errors import UserError
from ..stats.estimators import Prior, common_prior
from ..store.schema import SCHEMA
from .aggregate import summarise, uncontended
from .state import RunState

PHASES = ("warm_up_s", "timing_s", "checking_s", "memory_s")


def compose(state: RunState) -> dict[str, Any]:
    """Put a run together from its journal.

    Raises:
        UserError: No process got as far as its first benchmark.
    """
    session, plan = state.session, state.plan
    if session is None:
        raise UserError("the measuring process ended before its first case; run it again")
    settings = session.surroundings["settings"] | {"processes": plan.processes} | (plan.shard or {})
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
    spent = {phase: sum(one.spent.get(phase, 0.0) for one in state.done.values())
             for phase in PHASES}  # fmt: skip
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
