"""Hold new code against old: is anything slower?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...common.errors import UserError, in_one_line, raised_at
from ...common.paths import ROOT
from ...gate.config import kernel_rules, read_table, rule_of
from ...gate.gate import Options, comparable, run_gate
from ...gate.output import following, print_verdict, write_verdict
from ...gate.versions import bring, of_kernel_file, scratch, take
from ...plan.selection import add_axes
from ..say import say
from ..shared import read_axes
from ..types import duration, share


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("base", metavar="BASE", help="the old side: a revision, wheel or directory")
    parser.add_argument(
        "head", metavar="HEAD", nargs="?", help="the new side (default: the working tree)"
    )
    parser.epilog = (
        "Exit status: 0 no slow-down; 1 slower, more memory or operations, wrong, or gone; 2 could "
        "not measure, one line says why; 3 cannot tell; 4 the machine is too noisy. Python itself "
        "ends with 1 too where it finds no module bench: run it from the checkout."
    )
    add_axes(parser.add_argument, "smoke")
    parser.set_defaults(default_grid="smoke", device="cpu")
    parser.add_argument("--budget", type=duration, default=600.0, help="time for it (default: 10m)")
    parser.add_argument(
        "--tolerance", type=share, default=0.02, help="a slow-down that is let pass (default: 2%%)"
    )
    parser.add_argument(
        "--target", type=share, default=0.05, help="a slow-down that must be found (default: 5%%)"
    )
    parser.add_argument(
        "--allow", default="", help="kernels that may vanish, fail, or take more memory"
    )
    parser.add_argument("--thorough", action="store_true", help="more blocks for what is undecided")
    parser.add_argument("--base-python", metavar="PYTHON", help="interpreter of the old side")
    parser.add_argument("--head-python", metavar="PYTHON", help="interpreter of the new side")
    parser.add_argument(
        "--out", type=Path, default=ROOT / ".benchmarks" / "gate", help="where the verdict goes"
    )


def run(arguments: argparse.Namespace) -> int:
    """Return the gate's exit status, 1 for a regression only: whatever else stops it is 2."""
    try:
        return _hold(arguments)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(
            f"the gate could not measure: {in_one_line(error)} (at {raised_at(error)})"
        ) from error


def _hold(arguments: argparse.Namespace) -> int:
    axes = read_axes(arguments)
    rule = rule_of(arguments.tolerance, arguments.target)
    table = read_table(ROOT / "pyproject.toml")
    options = Options(
        rule=rule,
        rules=kernel_rules(table, rule),
        allowed=frozenset([*table.allow, *filter(None, arguments.allow.split(","))]),
        budget_s=arguments.budget,
        thorough=arguments.thorough,
        seed=axes.seed,
        pythons=_pythons(arguments),
        kernels=axes.kernel,
    )
    with scratch() as folder, following() as show:
        base = take(arguments.base, folder / "old", ROOT)
        head = take(arguments.head, folder / "new", ROOT)
        if axes.kernel_file is not None:
            base, head = bring(Path(axes.kernel_file), base, head, ROOT)
        for note in of_kernel_file(base, head):
            say(note)
        verdict = run_gate(comparable(axes), base, head, options, show)
    print_verdict(verdict)
    for path in write_verdict(verdict, base, head, arguments.out):
        print(path)
    return verdict.code


def _pythons(arguments: argparse.Namespace) -> tuple[str, str] | None:
    """Return the interpreters of a gate over two environments, where one is named."""
    named = arguments.base_python, arguments.head_python
    return (named[0] or sys.executable, named[1] or sys.executable) if any(named) else None
