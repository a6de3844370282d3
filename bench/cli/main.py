"""The commands of the suite, a module each in `cli/commands`.

`--help` reads the first line of each and imports none; a command imports what it needs.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from ..common.errors import UserError
from ..common.paths import COMMAND, IS_INSTALLED
from . import commands
from .output import run_in_form


class Parser(argparse.ArgumentParser):
    """An argument parser whose every error is one line and exit status 2."""

    arguments: Sequence[str] = ()  # that will be parsed: a file they name may add options

    def error(self, message: str) -> NoReturn:
        """Print one line and leave."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def command_files() -> dict[str, Path]:
    """Return the module of each command as typed: dashes are underscores there."""
    paths = (path for folder in commands.__path__ for path in Path(folder).glob("[!_]*.py"))
    return {path.stem.replace("_", "-"): path for path in sorted(paths)}


def make_parser(chosen: str | None = None, arguments: Sequence[str] = ()) -> Parser:
    """Make the parser of every command, with the options of the chosen one alone."""
    text = "Measure kernels, show stored runs, compare versions. COMMAND --help says more."
    parser = Parser(prog=COMMAND, description=text, allow_abbrev=False)
    added = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, path in command_files().items():
        text = path.read_text("utf-8").partition("\n")[0].strip('"')
        one = added.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name == chosen:
            module = import_module(f"{commands.__name__}.{path.stem}")
            one.set_defaults(run=module.run)
            one.arguments = arguments
            try:
                module.add_arguments(one)
            except argparse.ArgumentError as error:  # an axis took the name of one that follows
                raise UserError(
                    f"an axis is an option, of a name that no other has; {error}; rename the axis"
                ) from error
    return parser


def parse(given: Sequence[str]) -> argparse.Namespace:
    """Read the command line; what a command passes on to another program is in its `others`."""
    parser = make_parser(given[0] if given else None, given)
    arguments, others = parser.parse_known_args(given)
    if others and "others" not in arguments:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    arguments.others = others
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; a user's mistake is one line and 2."""
    given = sys.argv[1:] if argv is None else argv
    if sys.platform == "win32":
        print("error: the suite runs on Linux and macOS; got Windows; use its WSL", file=sys.stderr)
        return 2
    try:
        arguments = parse(given)
    except KeyboardInterrupt:  # while a command is loaded, which takes seconds
        print("stopped", file=sys.stderr)
        return 130
    except UserError as error:  # of a file that the arguments name
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        again = "the wheel without --no-deps" if IS_INSTALLED else "the suite with pip install -e ."
        print(
            f"error: the command {given[0]} needs a package that cannot be imported ({error}); "
            f"install {again}",
            file=sys.stderr,
        )
        return 2
    try:
        return run_in_form(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        resume = "; `run --resume` with the same axes goes on" * (arguments.command == "run")
        print(f"stopped{resume}", file=sys.stderr)
        return 130
