"""What a command found, in the form that is asked for: text, one JSON document, or paths alone.

A command that calls `add_forms` returns an `Output`; any other returns its exit status.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

JSON = "print one JSON document on the standard output, and nothing else there"
QUIET = "print the paths of what is stored, and errors, and nothing else"


class Output(NamedTuple):
    """What a command found."""

    document: Mapping[str, Any]  # for --json
    show: Callable[[], None]  # prints it for people
    stored: Sequence[Path] = ()  # for --quiet
    status: int = 0  # the exit status


def add_forms(parser: argparse.ArgumentParser, stores: bool = True) -> None:
    """Add the options that choose the form; `--quiet` where a command stores something."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--json", action="store_true", help=JSON)
    if stores:
        group.add_argument("--quiet", action="store_true", help=QUIET)


def run_in_form(arguments: argparse.Namespace) -> int:
    """Run a command, print what it found in the form that is asked for, return the exit status.

    With `--json` whatever else is printed meanwhile, by a kernel file too, goes to the standard
    error.
    """
    as_json, quiet = (getattr(arguments, name, False) for name in ("json", "quiet"))
    with ExitStack() as stack:
        if quiet:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        elif as_json:
            stack.enter_context(redirect_stdout(sys.stderr))
        found: Output | int = arguments.run(arguments)
    if not isinstance(found, Output):
        return found
    if as_json:
        print(json.dumps(_plain(found.document), indent=1, allow_nan=False, default=str))
    elif quiet:
        for path in found.stored:
            print(path)
    else:
        found.show()
    return found.status


def _plain(value: Any) -> Any:
    """Return a value with null for each number that is none: JSON has no NaN."""
    match value:
        case dict():
            return {str(name): _plain(one) for name, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case float() if not math.isfinite(value):
            return None
    return value
