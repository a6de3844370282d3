"""Compare new code with old: does anything regress?"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import extract_tb
from typing import TypeVar

from ...common.errors import UserError, in_one_line
from ...common.paths import ROOT
from ...common.progress import doing
from ...common.units import counted
from ...gate.blocks import BASE, HEAD
from ...gate.config import Project, Thresholds, read_config, read_project
from ...gate.gate import Options, feasible_benchmarks, run_gate
from ...gate.output import as_json, print_verdict, write_verdict
from ...gate.repository import import_worktree, kernel_file_option, with_own_operations
from ...gate.versions import checkout_versions, kernel_file_notes
from ...machine.devices import device_of
from ...machine.nvml import EXCLUSIVE
from ...plan.benchmark import require_present
from ...plan.selection import Selection, add_axes
from ...store.files import require_writable
from ..main import Parser
from ..output import Output, add_forms
from ..types import duration, say, share

GRID = "smoke"
_T = TypeVar("_T")


def add_arguments(parser: Parser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("base", metavar="BASE", help="the old version: a revision, wheel or directory")
    add("head", metavar="HEAD", nargs="?", help="the new version (default: the working tree)")
    parser.epilog = (
        "Exit status: 0 no regression of --equivalence-margin or more in any case's typical "
        "process; 1 regression: slower, a larger error, more memory or operations, a far longer "
        "first call, wrong, or removed; 2 could not measure, one line says why; 3 inconclusive; 4 "
        "the machine is too noisy. Python itself ends with 1 too where it finds no module bench: "
        "run it from the checkout, or install it."
    )
    project = read_project(ROOT / "pyproject.toml")
    if project.is_of_mlr or {"--help", "-h"} & {*parser.arguments} or not parser.arguments:
        _guarded(partial(add_axes, add, GRID, parser.arguments))
        parser.set_defaults(project=project, place=None, worktree=None)
    else:
        _guarded(partial(_add_axes_of_repository, parser, project))
    parser.set_defaults(device="cpu")
    add("--max-time", type=duration, default=600.0, help="time for it (default: 10m)")
    for name, field in Thresholds.model_fields.items():
        text = f"{field.description} (default: {field.default:.0%}%)"
        add(f"--{name.replace('_', '-')}", type=share, default=field.default, help=text)
    text = "kernels that may become slower, larger or wrong, or be removed"
    add("--allow-regression", default="", metavar="KERNELS", help=text)
    for name in (BASE, HEAD):
        add(f"--{name}-python", metavar="PYTHON", help=f"interpreter of the {name} version")
    add("--out", type=Path, default=ROOT / ".benchmarks" / "gate", help="where the verdict goes")
    add_forms(parser)


def _add_axes_of_repository(parser: Parser, project: Project) -> None:
    """Add the axes, with those of operations that kernel files of somebody's repository declare.

    What these import sets no environment variable for the processes that measure.
    """
    files = kernel_file_option(project, parser.arguments, ROOT)
    before, place = dict(os.environ), TemporaryDirectory(prefix="mlr-gate-")
    worktree = import_worktree(project, ROOT, Path(place.name))
    named = [f"--kernel-file={files}"] if files else []
    add_axes(parser.add_argument, GRID, [*named, *parser.arguments])
    os.environ.clear()
    os.environ.update(before)
    parser.set_defaults(project=project, place=place, worktree=worktree, kernel_file=files)


def run(arguments: argparse.Namespace) -> Output:
    """Return the verdict, of exit status 1 for a regression only: whatever else stops it is 2."""
    found = _guarded(partial(_run, arguments))
    return found._replace(show=partial(_guarded, found.show))


def _guarded(action: Callable[[], _T]) -> _T:
    try:
        return action()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        *_, last = extract_tb(error.__traceback__)
        where = f"{Path(last.filename).name}:{last.lineno}"
        raise UserError(f"the gate could not measure: {in_one_line(error)} (at {where})") from error


def _run(arguments: argparse.Namespace) -> Output:
    config = read_config(arguments, ROOT / "pyproject.toml")
    project, axes = arguments.project, Selection.from_args(arguments, GRID)
    operations = axes.operation if arguments.operation else None
    if not project.is_of_mlr and operations is None:
        axes = with_own_operations(axes, project)
    require_present(axes)
    cases, notes = feasible_benchmarks(axes, own_only=not project.is_of_mlr)
    require_writable("the folder of the verdict", arguments.out)
    named = {BASE: arguments.base_python, HEAD: arguments.head_python}
    pythons = {n: python or sys.executable for n, python in named.items() if any(named.values())}
    if pythons:
        _require_shared(axes.device or ())
    (threads,) = axes.threads
    files = axes.kernel_files()
    options = Options(
        config, arguments.max_time, axes.seed, pythons, axes.kernel, operations, threads
    )
    if project.is_of_mlr:
        options = replace(options, kernel_files=[str(file.resolve()) for file in files])
    else:
        options = replace(options, packages=project.packages)
    own_place = arguments.place or TemporaryDirectory(prefix="mlr-gate-")
    with own_place as folder, doing() as show:
        base, head = checkout_versions(
            arguments.base, arguments.head, Path(folder), ROOT, *files, project=project,
            pythons=pythons, worktree=None if pythons else arguments.worktree,
        )  # fmt: skip
        notes = [*notes, *kernel_file_notes(base, head)]
        for note in notes:
            say(note)
        verdict = run_gate(cases, base, head, options, show)
    verdict.notes[:0] = [*notes, f"Every process has {counted(threads, 'thread')}."]
    written = write_verdict(verdict, base, head, arguments.out)
    document = as_json(verdict, base, head)
    show = partial(print_verdict, verdict, written)
    return Output(document, show, written, verdict.exit_status)


def _require_shared(devices: Iterable[str]) -> None:
    """Refuse two interpreters on a device that lets in one process at a time."""
    for device in devices:
        if (gpu := device_of(device).gpu()) is not None and gpu.is_exclusive:
            raise UserError(
                f"two interpreters need two processes at a time on a device; {device} is in the "
                f"compute mode {EXCLUSIVE!r}; give both versions one interpreter, or have the mode "
                "changed"
            )
