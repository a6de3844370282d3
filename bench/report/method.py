"""Run -> the table that says how it was measured. Pure; text out of a run is data."""

from typing import Any

import pandas as pd

from ..common.units import UNKNOWN, digits, format_bytes, format_percent, format_time
from ..store.schema import Ceilings, Cost, Run
from ..store.settings import flat
from .markdown import markdown_table


def method_table(run: Run, name: str) -> str:
    """Return how a run was measured: machine, commit, date, cost, ceilings, settings, packages.

    A ceiling has a row of its own, and packages come a few to a row: no cell is wide.
    """
    machine, commit = run.machine, run.commit_info
    memory = format_bytes(machine.memory_bytes) if machine.memory_bytes else None
    rows: dict[str, Any] = {"run": name, "date": run.datetime, "commit": commit.id}
    rows["commit"] += " with uncommitted changes" if commit.dirty else ""
    rows |= {"branch": commit.branch, "machine": machine.slug, "CPU": machine.cpu}
    rows |= {"cores": machine.cores, "memory": memory, "GPU": machine.gpu}
    settings = flat(run.settings)
    rows["passes"] = settings.pop("passes", None)
    rows |= _cost(run.cost) if run.cost else {}
    for device, ceilings in sorted(machine.ceilings.items()):
        rows |= _ceilings(device, ceilings)
    rows |= {f"setting {key}": value for key, value in settings.items()}
    listed = [f"{key} {run.packages[key]}" for key in sorted(run.packages)]
    said = [(key, UNKNOWN if value is None else value) for key, value in rows.items()]
    for start in range(0, len(listed), _PACKAGES):
        said.append(("packages" if not start else "", ", ".join(listed[start : start + _PACKAGES])))
    table = pd.DataFrame(said, columns=["method", ""], dtype=object)
    return markdown_table(table, wide=["method", ""])


_PACKAGES = 4  # to a row


def _cost(cost: Cost) -> dict[str, str]:
    parts = ("timing", "warm_up", "checking", "memory")
    spent = [(part.replace("_", "-"), getattr(cost, f"{part}_s")) for part in parts]
    shares = [f"{name} {format_percent(part / cost.wall_s)}" for name, part in spent]
    return {
        "wall time": format_time(cost.wall_s),
        "where it went": ", ".join(shares),
        "overhead": f"{format_percent(cost.overhead)}: processes and imports",
    }


def _ceilings(device: str, ceilings: Ceilings) -> dict[str, str]:
    name = f"ceiling of {device}"
    found = {}
    if ceilings.dispatch_s:
        found[f"{name}: one call"] = format_time(ceilings.dispatch_s)
    for dtype, rate in sorted(ceilings.flops_per_s.items()):
        found[f"{name}: {dtype}"] = f"{digits(rate / 1e9)} GFLOP/s"
    for working_set, rate in ceilings.bandwidth_bytes_per_s:
        found[f"{name}: over {format_bytes(working_set)}"] = f"{digits(rate / 1e9)} GB/s"
    return found or {name: UNKNOWN}
