"""Values of the command line that argparse has no type for, each mistake in one line; and notes."""

import argparse
import math
import re
import sys
from contextlib import suppress
from functools import partial

from ..common.units import duration as duration


def say(line: str) -> None:
    """Print one line on the standard error at once."""
    print(line, file=sys.stderr, flush=True)


def whole(most: int, text: str) -> int:
    """Read a whole number from 1 to the most that it may be."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"takes 1 to {most:,}; got {text!r}")
    return int(text)


count = partial(whole, 100)  # how many times over something is done
size = partial(whole, 10**8)  # rows or columns


def share(text: str) -> float:
    """Read a share: `2%` or `0.02`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text, re.ASCII)
    value = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= value < 10:
        raise argparse.ArgumentTypeError(f"takes a share such as 2% or 0.02; got {text!r}")
    return value


def above_zero(text: str) -> float:
    """Read a finite number above zero."""
    with suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"takes a number above 0; got {text!r}")
