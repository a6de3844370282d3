"""Measure in one process, with every option of pytest-benchmark: a quick look."""

import argparse
import os
import sys

from ...run.runner import PYTEST


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Leave all options to pytest."""
    parser.description = (
        "Measure in one process, the axes as of `run`: `pytest bench` in a checkout. Takes every "
        "option of pytest and pytest-benchmark, such as --kernel matmul --benchmark-sort mean; "
        "`pytest --help` lists them."
    )
    parser.set_defaults(others=[])


def run(arguments: argparse.Namespace) -> int:
    """Become pytest, whose exit status is the command's."""
    sys.stdout.flush()
    os.execv(sys.executable, [*PYTEST, *arguments.others])
