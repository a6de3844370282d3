"""What several commands share."""

from __future__ import annotations

import argparse

from ..plan.selection import Selection


def read_axes(arguments: argparse.Namespace) -> Selection:
    """Read the axes, and check them."""
    return Selection.from_args(arguments, arguments.default_grid)
