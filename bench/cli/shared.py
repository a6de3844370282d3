"""What several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..plan.grid import Axes


def read_axes(arguments: argparse.Namespace) -> Axes:
    """Read the axes, and check them."""
    from ..plan.grid import (
        Axes,
    )  # which loads torch: `scale` must not have it before its environment is set

    return Axes.parse(lambda name: getattr(arguments, name), arguments.default_grid)
