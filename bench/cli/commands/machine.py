"""Measure what this machine can do at best."""

import argparse
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from ...common.paths import COMMAND
from ...common.units import UNKNOWN, format_bytes, format_time
from ...machine.devices import DEVICES, unavailable_reason
from ...machine.info import machine_info, packages, settings
from ...measure.ceilings import measure_ceilings
from ...report.tables import Column, render
from ...store.schema import Ceilings, ceilings_key, flatten_settings
from ..output import Output, add_forms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_forms(parser, stores=False)


def run(arguments: argparse.Namespace) -> Output:
    """Return what this machine is, how it is set, and what its devices reach."""
    document: dict[str, Any]
    document = {"machine": machine_info(), "settings": settings(), "packages": packages()}
    ceilings = {
        ceilings_key(device, torch.get_num_threads()): measure_ceilings(device)
        for device in DEVICES
        if unavailable_reason(device) is None
    }
    told = {name: found.model_dump(exclude_none=True) for name, found in ceilings.items()}
    return Output(document | {"ceilings": told}, partial(print_machine, document, ceilings))


def print_machine(found: Mapping[str, Any], ceilings: Mapping[str, Ceilings]) -> None:
    """Print a table of each part."""
    console, machine = Console(highlight=False), dict(found["machine"])
    console.print(f"{machine.pop('slug')}, as the runs of this machine are filed", markup=False)
    machine["memory"] = format_bytes(machine.pop("memory_bytes"))
    tables: dict[str, Mapping[str, object]] = {
        "machine": {name: value or UNKNOWN for name, value in machine.items()},
        "settings": flatten_settings(found["settings"]),
        "packages": found["packages"],
        **{_title(name): dict(_ceilings(one)) for name, one in ceilings.items()},
    }
    for title, facts in tables.items():
        frame = pd.DataFrame(facts.items(), columns=["name", "value"])
        columns = (Column(title, "name"), Column("", "value"))
        console.print("", render(frame, columns, to="console"))
    console.print(
        "\nA run measures what devices reach at best by itself, three times, and holds its results "
        f"against that: `{COMMAND} run`."
    )


def _title(name: str) -> str:
    device, _, threads = name.partition(", ")
    return f"{device} at best, measured with {threads}"


def _ceilings(measured: Ceilings) -> Iterator[tuple[str, str]]:
    yield "one dispatch", format_time(measured.dispatch_s or 0.0)
    for size, rate in measured.bandwidth_bytes_per_s:
        yield f"bandwidth, {format_bytes(size)}", f"{rate / 1e9:.4g} GB/s"
    if measured.cold_bytes_per_s is not None:
        yield "bandwidth, evicted memory", f"{measured.cold_bytes_per_s / 1e9:.4g} GB/s"
    for dtype, rate in measured.flops_per_s.items():
        yield f"operations, {dtype}", f"{rate / 1e9:.4g} GFLOP/s"
