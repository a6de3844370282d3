"""Measure what this machine can do at best."""

import argparse
from collections.abc import Iterator, Mapping

import pandas as pd
from rich.console import Console

from ...common.units import format_bytes, format_time
from ...machine.devices import DEVICES, unavailable_reason
from ...machine.info import machine_info, packages, settings
from ...measure.ceilings import measure_ceilings
from ...report.tables import Column, render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""


def run(arguments: argparse.Namespace) -> int:
    """Print what this machine is, how it is set, and what its devices reach; return 0."""
    console = Console(highlight=False)
    tables: dict[str, Mapping[str, object]]
    tables = {"machine": machine_info(), "settings": settings(), "packages": packages()}
    for device in DEVICES:
        if unavailable_reason(device) is None:
            tables[f"{device} at best, measured"] = dict(_ceilings(device))
    for title, facts in tables.items():
        frame = pd.DataFrame(facts.items(), columns=["name", "value"])
        columns = (Column(title, "name"), Column("", "value"))
        console.print(render(frame, columns, to="console"), "")
    return 0


def _ceilings(device: str) -> Iterator[tuple[str, str]]:
    measured = measure_ceilings(device)
    yield "one dispatch", format_time(measured.dispatch_s or 0.0)
    for size, rate in measured.bandwidth_bytes_per_s:
        yield f"bandwidth, {format_bytes(size)}", f"{rate / 1e9:.4g} GB/s"
    for dtype, rate in measured.flops_per_s.items():
        yield f"operations, {dtype}", f"{rate / 1e9:.4g} GFLOP/s"
