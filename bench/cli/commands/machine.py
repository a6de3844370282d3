"""Measure what this machine can do at best."""

from __future__ import annotations

import argparse

from ..console import print_machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    print_machine()
    return 0
