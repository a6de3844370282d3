"""The axes as options, for pytest and `python -m bench` alike, and the selection they make.

It loads torch only to check a selection: a command sets its environment before that.
"""

import argparse
import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Self

from ..common.errors import UserError, single_line
from ..machine.cores import usable
from ..machine.environment import THREADS
from .grid import DEFAULT_GRID, GRIDS


def _axis(text: str, default: Any = None, read: Callable[[str], Any] = str) -> Any:
    return field(default=default, metadata={"help": text, "type": read})


@dataclass(frozen=True, slots=True)
class Selection:
    """What the command line puts in place of a grid's axes; None leaves the grid's own.

    Each field is an axis, and an option of that name.
    """

    grid: str = _axis(
        f"{', '.join(GRIDS)} (default: {{grid}}, or where a size is given single: "
        "100 x 16 -> 8 in float64)",
        DEFAULT_GRID,
    )
    operation: tuple[str, ...] | None = _axis("gradient,step,fit")
    kernel: tuple[str, ...] | None = _axis("kernel names, comma-separated")
    device: tuple[str, ...] | None = _axis("device types, as cpu,cuda (default: all that are here)")
    dtype: tuple[str, ...] | None = _axis("float32,float64, or another that a kernel takes")
    batch: tuple[int, ...] | None = _axis("rows m: 33,100 or a geometric range 2^8:2^14:2")
    features: tuple[int, ...] | None = _axis("input features n, likewise")
    outputs: tuple[int, ...] | None = _axis("output features o, likewise")
    threads: tuple[int, ...] = _axis(
        "numbers of threads, as 1,2,all: all physical cores (default: OMP_NUM_THREADS, or what "
        "the grid has a run take, or 1)",
        (THREADS,),
    )
    kernel_file: str | None = _axis("a Python file that registers kernels of your own")
    seed: int = _axis("seed of the inputs (default: 0)", 0, int)

    @classmethod
    def from_args(
        cls, args: argparse.Namespace, grid: str = DEFAULT_GRID, *, several_threads: bool = False
    ) -> Self:
        """Read the axes off parsed options, load the kernels, and check all of them."""
        from mlr import KERNELS, OPERATIONS, KernelFileError, load_installed, load_kernels

        from ..machine.devices import DEVICES, unavailable_reason

        raw = {axis.name: getattr(args, axis.name) for axis in fields(cls)}
        given = {name: sizes(raw[name], f"--{name}") for name in ("batch", "features", "outputs")}
        raw |= given
        raw["grid"] = raw["grid"] or ("single" if any(given.values()) else grid)
        if raw["grid"] not in GRIDS:
            raise UserError(f"--grid is one of {', '.join(GRIDS)}; got {raw['grid']!r}")
        usual = GRIDS[raw["grid"]].threads if several_threads else str(THREADS)
        raw["threads"] = thread_counts(raw["threads"], usual)
        if len(raw["threads"]) > 1 and not several_threads:
            raise UserError(f"--threads takes one number here; got {args.threads}; see `run`")
        try:
            load_installed()
            if raw["kernel_file"] is not None:
                load_kernels(raw["kernel_file"])
        except KernelFileError as error:
            raise UserError(str(error)) from error
        dtypes = dict.fromkeys(dtype for kernel in KERNELS.values() for dtype in kernel.dtypes)
        known = {"operation": OPERATIONS, "kernel": sorted(KERNELS), "device": DEVICES}
        for name, valid in (known | {"dtype": dtypes}).items():
            raw[name] = names(raw[name], f"--{name}", valid)
        here = (one for one in DEVICES if unavailable_reason(one) is None)
        raw["device"] = raw["device"] or tuple(here)
        return cls(**raw)

    def as_arguments(self) -> list[str]:
        """Return it as the options that give it again, for a child process."""
        values = {axis.name.replace("_", "-"): getattr(self, axis.name) for axis in fields(self)}
        return [
            f"--{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
            for name, value in values.items()
            if value is not None
        ]


def add_axes(add_option: Callable[..., Any], grid: str = DEFAULT_GRID) -> None:
    """Add every axis through argparse's `add_argument` or pytest's `addoption`."""
    for axis in fields(Selection):
        add_option(
            f"--{axis.name.replace('_', '-')}",
            default=None if axis.name in ("grid", "threads") else axis.default,
            type=axis.metadata["type"],
            help=axis.metadata["help"].format(grid=grid),
        )


def names(text: str | None, flag: str, valid: Iterable[str]) -> tuple[str, ...] | None:
    """Split a comma-separated list of known names."""
    if text is None:
        return None
    known, found = tuple(valid), tuple(part.strip() for part in text.split(","))
    for name in found:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            mean = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{flag} takes {', '.join(known)}; got {name!r}{mean}")
    return tuple(dict.fromkeys(found))


def thread_counts(text: str | None, usual: str = str(THREADS)) -> tuple[int, ...]:
    """Parse numbers of threads, `1,2,all`; where none is given OMP_NUM_THREADS, or the usual."""
    (cores, most), flag = usable(), "--threads"
    if text is None and (outside := os.environ.get("OMP_NUM_THREADS")):
        text, flag = outside.partition(",")[0], "OMP_NUM_THREADS"  # of levels of nesting the first
    text = usual if text is None else text
    known = {str(count): count for count in range(1, most + 1)} | {"all": cores}
    for part in (parts := text.replace(" ", "").split(",")):
        if part not in known:
            raise UserError(
                f"{flag} takes numbers from 1 to {most}, as many processors as this process may "
                f"use, or all; got {single_line(repr(part), 60)}"
            )
    return tuple(dict.fromkeys(known[part] for part in parts))


def sizes(text: str | None, flag: str) -> tuple[int, ...] | None:
    """Parse a list `33,100`, or a geometric range `first:last:factor` that holds both ends' powers.

    >>> sizes("33,100", "--batch")
    (33, 100)
    >>> sizes("2^8:2^11:2", "--batch")
    (256, 512, 1024, 2048)
    """
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        first, *others = (_size(end, part, flag) for end in part.split(":"))
        if not others:
            found.append(first)
            continue
        if len(others) != 2 or others[0] < first or others[1] < 2:
            raise UserError(
                f"{flag} takes a range first:last:factor that grows by a factor of 2 or more, say "
                f"2^8:2^14:2; got {part!r}"
            )
        last, factor = others
        count = int(math.log(last / first, factor) + 1e-9) + 1
        found += [first * factor**step for step in range(count)]
    return tuple(dict.fromkeys(found))


def _size(text: str, part: str, flag: str) -> int:
    found = re.fullmatch(r"(\d{1,13})(?:\^(\d{1,2}))?", text.strip(), re.ASCII)
    value: int = int(found[1]) ** int(found[2] or 1) if found else 0
    if not 1 <= value <= 10**12:
        raise UserError(
            f"{flag} takes sizes from 1 to 10^12, like 33, 2^8 or 2^8:2^14:2; got {part!r}"
        )
    return value
