"""The axes as options, for pytest and `python -m bench` alike, and the selection they make.

It loads torch only to check a selection: a command sets its environment before that.
"""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from ..common.errors import UserError, single_line
from ..machine.cores import usable
from ..machine.environment import THREADS
from ..store.columns import FRAME
from .grid import DEFAULT_GRID, GRIDS, Processes

# The options of axes, which any operation may have. Others are those of a user's operation.
AXES = {
    "batch": "rows m: 33,100 or a geometric range 2^8:2^14:2",
    "features": "input features n, likewise",
    "outputs": "output features o, likewise",
}
SHORT = {"in_features": "features", "out_features": "outputs"}  # the options of longer names
KERNEL_FILES = Path(__file__).parents[1]  # what a grid's are relative to


def _axis(text: str, default: Any = None, read: Callable[[str], Any] = str) -> Any:
    return field(default=default, metadata={"help": text, "type": read})


@dataclass(frozen=True, slots=True)
class Selection:
    """What the command line puts in place of a grid's axes; None leaves the grid's own.

    Each field but `sizes` is an axis, and an option of that name.
    """

    grid: str = _axis(
        f"{', '.join(GRIDS)} (default: {{grid}}, or where a size is given single: "
        "100 x 16 -> 8 in float64)",
        DEFAULT_GRID,
    )
    operation: tuple[str, ...] | None = _axis(
        "operation names, comma-separated (default: the grid's, or those of the kernel file)"
    )
    kernel: tuple[str, ...] | None = _axis("kernel names, comma-separated")
    device: tuple[str, ...] | None = _axis("device types, as cpu,cuda (default: all that are here)")
    dtype: tuple[str, ...] | None = _axis("float32,float64, or another that a kernel takes")
    threads: tuple[int, ...] = _axis(
        "numbers of threads, as 1,2,all: all physical cores (default: OMP_NUM_THREADS, or what "
        "the grid has a run take, or 1)",
        (THREADS,),
    )
    kernel_file: str | None = _axis(
        "a Python file with kernels, or operations, of your own; several comma-separated"
    )
    seed: int = _axis("seed of the inputs (default: 0)", 0, int)
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # by option, those given

    @classmethod
    def from_args(
        cls, args: argparse.Namespace, grid: str = DEFAULT_GRID, *, several_threads: bool = False
    ) -> Self:
        """Read the axes off parsed options, load the kernels, and check all of them."""
        from mlr import KERNELS, OPERATIONS

        from ..machine.devices import DEVICES, unavailable_reason

        raw: dict[str, Any] = {axis.name: getattr(args, axis.name) for axis in _options()}
        names_of_file = load_files(raw["kernel_file"], raw["grid"] or grid)
        options = size_options(OPERATIONS)
        texts = {option: getattr(args, _dest(option), None) for option in options}
        given = {option: sizes(text, f"--{option}") for option, text in texts.items()}
        raw["sizes"] = {option: some for option, some in given.items() if some is not None}
        raw["grid"] = raw["grid"] or ("single" if raw["sizes"] else grid)
        if raw["grid"] not in GRIDS:
            raise UserError(f"--grid is one of {', '.join(GRIDS)}; got {raw['grid']!r}")
        usual = GRIDS[raw["grid"]].threads if several_threads else str(THREADS)
        raw["threads"] = thread_counts(raw["threads"], usual)
        if len(raw["threads"]) > 1 and not several_threads:
            raise UserError(f"--threads takes one number here; got {args.threads}; see `run`")
        dtypes = dict.fromkeys(dtype for kernel in KERNELS.values() for dtype in kernel.dtypes)
        kernels = dict.fromkeys(sorted(kernel.name for kernel in KERNELS.values()))
        known: dict[str, Iterable[str]] = {"operation": OPERATIONS, "kernel": kernels}
        for name, valid in (known | {"device": DEVICES, "dtype": dtypes}).items():
            raw[name] = names(raw[name], f"--{name}", valid)
        if any(KERNELS[name].is_baseline for name in names_of_file):  # it declares an operation
            of_file = dict.fromkeys(KERNELS[name].operation for name in names_of_file)
            raw["operation"] = raw["operation"] or tuple(of_file)
        here = (one for one in DEVICES if unavailable_reason(one) is None)
        raw["device"] = raw["device"] or tuple(here)
        return cls(**raw)

    def kernel_files(self) -> list[Path]:
        """Return the kernel files of the grid, and the user's."""
        return files_of(self.kernel_file, self.grid)

    def as_arguments(self) -> list[str]:
        """Return it as the options that give it again, for a child process."""
        values = {axis.name.replace("_", "-"): getattr(self, axis.name) for axis in _options()}
        values |= self.sizes
        return [
            f"--{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
            for name, value in values.items()
            if value is not None
        ]


def _options() -> list[Any]:
    return [axis for axis in fields(Selection) if axis.metadata]


# Names that no axis can have: of a run's columns, of options, of what pytest hands to a benchmark.
TAKEN = {*FRAME, "grid", "kernel_file", "seed", "benchmark", "measure", "request"}


def add_axes(
    add_option: Callable[..., Any], grid: str = DEFAULT_GRID, arguments: Sequence[str] = ()
) -> None:
    """Add every axis through argparse's `add_argument` or pytest's `addoption`.

    With the arguments of a command line also those of a user's operations: the file that they name
    is loaded, and installed packages that offer kernels.

    Raises:
        UserError: If it cannot be, or an axis has the name of something else.
    """
    for axis in _options():
        add_option(
            f"--{axis.name.replace('_', '-')}",
            default=None if axis.name in ("grid", "threads") else axis.default,
            type=axis.metadata["type"],
            help=axis.metadata["help"].format(grid=grid),
        )
    for option, text in size_options(named_operations(arguments, grid)).items():
        try:
            add_option(f"--{option}", dest=_dest(option), help=text)
        except (argparse.ArgumentError, ValueError) as error:
            raise UserError(
                f"an axis is an option, of a name that no other has; --{option} is another of "
                "this command; rename the axis"
            ) from error


def named_operations(arguments: Sequence[str], grid: str) -> tuple[str, ...]:
    """Return all operations, with those of the kernel files that a command line names."""
    if not arguments:
        return ()
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("--kernel-file")
    early.add_argument("--grid", default=grid)
    try:
        named, _ = early.parse_known_args([*arguments])
    except argparse.ArgumentError:  # an option without its value: the whole parser says so
        return ()
    load_files(named.kernel_file, named.grid)
    from mlr import OPERATIONS

    return tuple(OPERATIONS)


def load_files(file: str | None, grid: str) -> tuple[str, ...]:
    """Load installed packages that offer kernels, a grid's kernel files and a user's.

    Returns:
        The keys of the kernels in the files.

    Raises:
        UserError: If one cannot be loaded.
    """
    from mlr import KernelFileError, load_installed, load_kernels

    try:
        with redirect_stdout(sys.stderr):  # what they print is no result of a command
            load_installed()
            return tuple(name for one in files_of(file, grid) for name in load_kernels(one))
    except KernelFileError as error:
        raise UserError(str(error)) from error


def files_of(file: str | None, grid: str) -> list[Path]:
    """Return the kernel files of a grid, if there is one of that name, and a user's."""
    of_grid = GRIDS[grid].kernel_files if grid in GRIDS else ()
    return [*(KERNEL_FILES / one for one in of_grid),
            *(map(Path, file.split(",")) if file is not None else [])]  # fmt: skip


def option_of(axis: str) -> str:
    """Return the option of an axis, without its dashes: `features` of `in_features`."""
    return SHORT.get(axis, axis).replace("_", "-")


def _dest(option: str) -> str:
    return option if option in AXES else f"axis_{option}"  # no other attribute of the arguments


def size_options(operations: Iterable[str] = ()) -> dict[str, str]:
    """Return the options of sizes with their help: the suite's own, and those of operations.

    Raises:
        UserError: If an axis has the name of something else.
    """
    found = dict(AXES)
    for name in operations:
        from mlr import OPERATIONS

        options: dict[str, str] = {}
        for axis, usual in OPERATIONS[name].axes.items():
            option = option_of(axis)
            if axis in TAKEN or option in options:
                other = f"the axis {options[option]}" if option in options else "another thing"
                raise UserError(
                    f"an axis needs a name of its own; {axis} of operation {name} would be taken "
                    f"for {other} of that name; rename it"
                )
            options[option] = axis
            text = f"{axis} of {name}, likewise (default: {','.join(map(str, usual))})"
            found.setdefault(option, text)
    return found


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


MOST_PROCESSES = 100


def process_count(text: str) -> Processes:
    """Read how many processes time a benchmark: `5`, or the least and the most, `2:5`."""
    match = re.fullmatch(r"(\d{1,3})(?::(\d{1,3}))?", text, re.ASCII)
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not (1 if match and not match[2] else 2) <= least <= most <= MOST_PROCESSES:
        raise argparse.ArgumentTypeError(
            f"takes 1 to {MOST_PROCESSES}, or from 2 on the least and the most as 2:5; got {text!r}"
        )
    return Processes(least, most)


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
