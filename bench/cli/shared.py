"""What several commands share."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..plan.grid import Axes


def read_axes(arguments: argparse.Namespace) -> Axes:
    """Read the axes, and check them."""
    from ..plan.grid import Axes  # which needs torch; not all that import this do

    return Axes.parse(lambda name: getattr(arguments, name), arguments.default_grid)


def say(line: str) -> None:
    """Print one line on the standard error at once."""
    print(line, file=sys.stderr, flush=True)
