"""What was measured on this machine for `mlr` to act on: `python -m bench tune` writes it down.

A table of the fastest kernel at each measured size, and how much work is worth another thread. It
holds for the processor and the GPU that it was measured on, and says nothing on any other.
"""

from __future__ import annotations

import json
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

TABLE_VARIABLE = "MLR_TUNING_TABLE"


class Fastest(NamedTuple):
    """One measured case and the kernel that was the fastest at it."""

    operation: str
    device: str
    dtype: str
    sizes: tuple[int, int, int]
    kernel: str


class TuningTable(NamedTuple):
    """What was measured on this machine.

    Attributes:
        fastest: The kernel that was the fastest at each measured case.
        part_flops: Operations from which a part of the rows is worth a thread of its own; None
            where that was not measured.
    """

    fastest: tuple[Fastest, ...] = ()
    part_flops: int | None = None


def table_path() -> Path:
    """Return where this user's table lies: `MLR_TUNING_TABLE`, or `tuning.json` in the settings."""
    if named := os.environ.get(TABLE_VARIABLE):
        return Path(named)
    settings = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(settings) / "mlr" / "tuning.json"


def processor() -> str:
    """Return LLVM's name of this machine's processor, `znver4`."""
    from llvmlite import binding as llvm  # a program may need none of it

    return str(llvm.get_host_cpu_name())


def hardware(device: str = "cuda") -> dict[str, Any]:
    """Return what numbers of a device depend on: the processor and, but for the CPU, the GPU.

    For the CPU no GPU is asked for: that would start CUDA, which a forked process cannot.
    """
    found: dict[str, Any] = {"cpu": processor()}
    if not device.startswith("cpu"):
        found["gpu"] = torch.cuda.get_device_name(device) if torch.cuda.is_available() else None
    return found


@cache
def current_table(device: str = "cpu") -> TuningTable:
    """Return this user's table, read once a process; an empty one where none is of the device."""
    return read_table(table_path(), device)


@cache
def read_table(path: Path, device: str = "cpu") -> TuningTable:
    """Read a table for a device; an empty one where there is none, or it is of other hardware.

    A file that is no table is not used, which a warning says once.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        found = tuple(
            Fastest(operation, device, dtype, (m, n, o), kernel)
            for operation, device, dtype, m, n, o, kernel in held["fastest"]
            if min(m, n, o) >= 1 and isinstance(kernel, str)
        )
        part_flops = held["part_flops"]
        if part_flops is not None and (type(part_flops) is not int or part_flops < 1):
            raise ValueError("part_flops is no number of operations")
        ours = all(held["of"][name] == value for name, value in hardware(device).items())
        return TuningTable(found, part_flops) if ours else TuningTable()
    except FileNotFoundError:
        return TuningTable()
    except (OSError, ValueError, KeyError, TypeError) as error:
        warnings.warn(
            f"a tuning table is what `python -m bench tune` writes; {path} is none "
            f"({type(error).__name__}: {error}); the default is used; remove it",
            stacklevel=2,
        )
        return TuningTable()
