"""How the numbers of a report are written: with units, three digits, spread in brackets."""

import argparse
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable

UNKNOWN = "–"  # where there is no number
NOT_DECLARED = "not declared"  # where it would follow from a cost that nobody declared
_TIME_UNITS = (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0))
_BYTE_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def counted(count: int, noun: str) -> str:
    """Write how many there are of something whose plural takes an s, or es after one.

    >>> counted(1, "case"), counted(1_200, "block"), counted(2, "process")
    ('1 case', '1,200 blocks', '2 processes')
    """
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def digits(value: float) -> str:
    """Write a number with three significant digits, never as a power of ten from 0.001 on.

    >>> digits(4.0), digits(284.3), digits(41234.0)
    ('4.00', '284', '41,200')
    """
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:#.3g}".removesuffix(".")


def format_time(seconds: float, *others: float) -> str:
    """Write a time with its unit; further times follow in brackets, in the unit of the first.

    >>> format_time(2.84e-4), format_time(1.4e-6, 1.2e-6, 2e-6), format_time(-3.5e-6)
    ('284 µs', '1.40 µs (1.20–2.00)', '-3.50 µs')
    """
    if not math.isfinite(seconds):
        return UNKNOWN
    fitting = (pair for pair in _TIME_UNITS if float(f"{abs(seconds) / pair[1]:.3g}") < 1000)
    unit, scale = next(fitting, _TIME_UNITS[-1])
    text = f"{digits(seconds / scale)} {unit}"
    return f"{text} ({'–'.join(digits(other / scale) for other in others)})" if others else text


def format_bytes(count: float) -> str:
    """Write a number of bytes in binary units.

    >>> format_bytes(800), format_bytes(4_800_368)
    ('800 B', '4.58 MiB')
    """
    if not math.isfinite(float(count)):
        return UNKNOWN
    if count < 1024:
        return f"{count:.0f} B"
    units = [(unit, count / 1024**power) for power, unit in enumerate(_BYTE_UNITS, 1)]
    fitting = (pair for pair in units if float(f"{pair[1]:.4g}") < 1024)
    unit, number = next(fitting, units[-1])
    return f"{digits(number)} {unit}"


def format_tick(value: float, write: Callable[[float], str] = format_time) -> str:
    """Write a time, or what `write` writes with its unit, at an axis: no digit more than it needs.

    >>> format_tick(1e-5), format_tick(0.5), format_tick(32 * 2**30, format_bytes)
    ('10 µs', '500 ms', '32 GiB')
    """
    number, unit = write(value).split()
    return f"{float(number.replace(',', '')):g} {unit}"


def format_ratio(ratio: float, low: float = math.nan, high: float = math.nan) -> str:
    """Write a ratio, with its interval where there is one.

    >>> format_ratio(5.7), format_ratio(5.7, 5.1, 6.02)
    ('5.70×', '5.70× (5.10–6.02)')
    """
    if not math.isfinite(ratio):
        return UNKNOWN
    interval = (
        f" ({digits(low)}–{digits(high)})" if math.isfinite(low) and math.isfinite(high) else ""
    )
    return f"{digits(ratio)}×{interval}"


def format_predicted(count: float) -> str:
    """Write a number of bytes that follows from a declared formula, if there is one."""
    return format_bytes(count) if math.isfinite(float(count)) else NOT_DECLARED


def format_error(error: float) -> str:
    """Write a relative error with two digits.

    >>> format_error(1.234e-16)
    '1.2e-16'
    """
    if not math.isfinite(error):
        return UNKNOWN
    return f"{error:.1e}" if error else "0"


def tally(names: Iterable[str]) -> str:
    """Say how often each name occurs.

    >>> tally(["ok", "wrong", "ok"])
    '2 ok, 1 wrong'
    """
    return ", ".join(f"{count:,} {name}" for name, count in sorted(Counter(names).items()))


def format_percent(part: float) -> str:
    """Write a part of one in percent.

    >>> format_percent(0.437)
    '43.7 %'
    """
    return f"{digits(100 * part)} %" if math.isfinite(part) else UNKNOWN


def duration(text: str) -> float:
    """Read a duration in seconds: `90`, `90s`, `10m`, `1.5h`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text, re.ASCII)
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"takes a time such as 90s, 10m or 1h; got {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def format_efficiency(part: float, bound: str = "memory") -> str:
    """Write a part of a roofline bound: in whole per cents, to about 5 where a bandwidth sets it.

    A measured bandwidth moves by tens of per cent from hour to hour, a peak hardly at all.

    >>> format_efficiency(0.877, "compute"), format_efficiency(0.877, "memory")
    ('88 %', 'about 90 %')
    """
    if not math.isfinite(part):
        return UNKNOWN
    about, step = ("about ", 5) if bound in ("cache", "memory") else ("", 1)
    rounded = step * round(100 * part / step)
    return f"{about}{rounded} %" if rounded else f"under {step} %"
