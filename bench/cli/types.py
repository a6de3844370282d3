"""Values of the command line that argparse has no type for; each mistake is one line."""

import argparse
import math
import re

from ..common.shard import Shard

MOST_PASSES = 100
MOST_ROWS = 10**8
FORMATS = ("html", "md", "csv", "parquet")
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def count(text: str) -> int:
    """Read how many times over something is done.

    Raises:
        argparse.ArgumentTypeError: It is no number from 1 to 100.
    """
    return _whole(text, MOST_PASSES)


def size(text: str) -> int:
    """Read a number of rows or columns.

    Raises:
        argparse.ArgumentTypeError: It is none from 1 to a hundred million.
    """
    return _whole(text, MOST_ROWS)


def _whole(text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"takes 1 to {most:,}; got {text!r}")
    return int(text)


def duration(text: str) -> float:
    """Read a duration in seconds: `90`, `90s`, `10m`, `1.5h`.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text, re.ASCII)
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"takes a time such as 90s, 10m or 1h; got {text!r}")
    return float(match[1]) * UNITS[match[2]]


def share(text: str) -> float:
    """Read a share: `2%` or `0.02`.

    Raises:
        argparse.ArgumentTypeError: It is none from 0 % to under 1000 %.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text, re.ASCII)
    value = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= value < 10:
        raise argparse.ArgumentTypeError(f"takes a share such as 2% or 0.02; got {text!r}")
    return value


def shard(text: str) -> Shard:
    """Read which part of a plan: `2/3`.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        return Shard.read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def above_zero(text: str) -> float:
    """Read a finite number above zero.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"takes a number above 0; got {text!r}")
    return value


def formats(text: str) -> tuple[str, ...]:
    """Read the formats of a report, comma-separated.

    Raises:
        argparse.ArgumentTypeError: One of them is not known.
    """
    found = tuple(filter(None, text.split(",")))
    if not found or set(found) - set(FORMATS):
        raise argparse.ArgumentTypeError(f"takes {', '.join(FORMATS)}; got {text!r}")
    return found
