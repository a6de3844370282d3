"""Frame -> table: one list of columns each, rendered as Markdown, HTML, or on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup
from rich.markup import escape as escape_rich
from rich.table import Table

from ..analysis.frame import SIZES
from ..analysis.growth import FITTED
from ..analysis.growth import UNKNOWN as NOT_KNOWN
from ..analysis.jacobian import WITH_JACOBIAN, WITHOUT_JACOBIAN
from ..common.units import (
    UNKNOWN,
    digits,
    format_bytes,
    format_case,
    format_error,
    format_percent,
    format_ratio,
    format_time,
)
from ..store.runs import single_line
from .markdown import Markdown, markdown_table

__all__ = ["WITHOUT_JACOBIAN", "WITH_JACOBIAN", "Column", "render"]  # and the tables, for templates
FLAG = "†"  # a measured case with a warning
LETTERS = dict(zip(SIZES, "mno", strict=True))


def as_text(value: Any) -> str:
    """Write a value that may be missing."""
    return UNKNOWN if value is None or value is pd.NA or value != value else str(value)


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        heading: At its head.
        fields: The columns of the frame that it shows; the first is what it is sorted by.
        format: Writes the values of these.
        optional: Whether it is left out where no row has a value.
        once: Whether a cell is left empty where it says the same as the one above.
    """

    heading: str
    fields: str | tuple[str, ...]
    format: Callable[..., str] = as_text
    optional: bool = False
    once: bool = False

    @property
    def names(self) -> list[str]:
        """The columns of the frame, as a list."""
        return [self.fields] if isinstance(self.fields, str) else list(self.fields)

    def write(self, frame: pd.DataFrame) -> list[str]:
        """Write the cell of each row."""
        rows = frame[self.names].itertuples(index=False, name=None)
        said = [self.format(*row) for row in rows]
        if not self.once:
            return said
        return [text if not place or text != said[place - 1] else ""
                for place, text in enumerate(said)]  # fmt: skip


def render(frame: pd.DataFrame, columns: Sequence[Column], to: str = "markdown") -> Any:
    """Return a table of a frame: Markdown, the HTML of its head and rows, or one of `rich`.

    Args:
        frame: Its rows.
        columns: What is shown of them.
        to: `markdown`, `html` or `console`.
    """
    shown = {column: column.write(frame) for column in columns}
    shown = {
        column: texts
        for column, texts in shown.items()
        if not column.optional or set(texts) - {UNKNOWN, ""}
    }
    return {"markdown": _markdown, "html": _html, "console": _console}[to](frame, shown)


def _markdown(frame: pd.DataFrame, shown: dict[Column, list[str]]) -> Markdown:
    texts = {column.heading: cells for column, cells in shown.items()}
    return markdown_table(pd.DataFrame(texts, dtype=object))


def _html(frame: pd.DataFrame, shown: dict[Column, list[str]]) -> Markup:
    """Return numbers with `data-order`, by which they are sorted; what is missing is the least."""
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(one.heading) for one in shown)
    columns = []
    for column, texts in shown.items():
        values, cell = frame[column.names[0]], Markup("<td>{}</td>")
        orders = [""] * len(values)
        if pd.api.types.is_numeric_dtype(values):
            cell = Markup('<td data-order="{1}">{0}</td>')
            orders = [f"{value:.6g}" for value in values.astype(float).fillna(-1)]
        pairs = zip(texts, orders, strict=True)
        columns.append([cell.format(single_line(text, 300), order) for text, order in pairs])
    rows = "\n".join(f"<tr>{''.join(row)}</tr>" for row in zip(*columns, strict=True))
    return Markup(f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>")


def _console(frame: pd.DataFrame, shown: dict[Column, list[str]]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for column in shown:
        numeric = pd.api.types.is_numeric_dtype(frame[column.names[0]])
        table.add_column(column.heading, justify="right" if numeric else "left", overflow="fold")
    for row in zip(*shown.values(), strict=True):
        table.add_row(*map(escape_rich, row))
    return table


def _flagged(kernel: str, flagged: bool) -> str:
    return f"{kernel} {FLAG}" if flagged else kernel


def _speedup(ratio: float, low: float, high: float, kernel: str, baseline: str) -> str:
    return "baseline" if kernel == baseline and ratio == ratio else format_ratio(ratio, low, high)


def _status(status: str, contended: float, processes: float) -> str:
    if not contended > 0:
        return status
    return f"{status}, {contended:.0f} of {processes:.0f} processes contended"


def _unless_missing(status: Any, *ratio: float) -> str:
    missing = as_text(status)
    return format_ratio(*ratio) if ratio[0] == ratio[0] else missing


def _several(ties: Sequence[str], between: str = ", ") -> str:
    """Return the first two names, and how many more there are."""
    more = f" and {len(ties) - 2} more" if len(ties) > 2 else ""
    return between.join(ties[:2]) + more or UNKNOWN


def _tied(kernel: str, ties: Sequence[str]) -> str:
    return f"{kernel} ≈ {_several(ties, ' ≈ ')}" if ties else kernel


def _held(*sizes: Any) -> str:
    """Write the two sizes that are held fixed, the third being missing."""
    pairs = zip(LETTERS.values(), sizes, strict=True)
    return ", ".join(f"{letter} = {int(size):,}" for letter, size in pairs if not pd.isna(size))


def _power(exponent: float) -> str:
    # Not below zero by a rounding.
    return f"{round(exponent, 2) + 0.0:.2f}" if exponent == exponent else UNKNOWN


def _exponent(value: float, low: float, high: float, state: str) -> str:
    if state != FITTED:
        return UNKNOWN if state == NOT_KNOWN else state
    ends = f" ({_power(low)}–{_power(high)})" if low != high else ""
    return _power(value) + ends


def _crossover(size: float, axis: str, last: float, first: float) -> str:
    about = digits(float(f"{size:.2g}")).removesuffix(".0")
    return f"{LETTERS[axis]} ≈ {about} (between {last:,} and {first:,})"


def _pair(first: str, second: str) -> str:
    return f"{first}, {second}"


def _failure(status: str, kernel: str) -> str:
    return status if status == "ok" else f"{kernel}: {status}"


def _where(*case: Any) -> str:
    *sizes, dtype = case
    return f"{format_case(*sizes)}, {dtype}"


def _count(number: float) -> str:
    return f"{number:,.0f}" if number == number else UNKNOWN


SIZE = Column("batch × in → out", tuple(SIZES), format_case)
KERNEL = Column("kernel", "kernel")
STAGE = Column("operation", "operation")
DEVICE_DTYPE = Column("device, dtype", ("device", "dtype"), _pair)
TIME = Column("time: median (q1–q3)", ("median_s", "q1_s", "q3_s"), format_time)
SPEEDUP = Column(
    "speedup vs. torch.nn",
    ("speedup", "speedup_low", "speedup_high", "kernel", "baseline"), _speedup,
)  # fmt: skip
_MEASURED = (
    TIME,
    SPEEDUP,
    Column("device time, cold", "device_cold_s", format_time, optional=True),
    Column("device time, hot", "device_hot_s", format_time, optional=True),
    Column("launch gap", "launch_gap_s", format_time, optional=True),
    Column("roofline efficiency", "efficiency", format_percent, optional=True),
    Column("peak memory", "peak_bytes", format_bytes),
    Column("predicted", "predicted_peak_bytes", format_bytes),
    Column("max. rel. error", "max_rel_error", format_error),
    Column("status", ("status", "contended_processes", "processes"), _status),
)
# The results of one slice, see `in_order`.
RESULTS = (SIZE._replace(once=True), Column("kernel", ("kernel", "flagged"), _flagged), *_MEASURED)
# All results, on the page.
ALL_RESULTS = (
    *(KERNEL, STAGE, Column("device", "device"), Column("dtype", "dtype")),
    *(Column(letter, name, _count) for name, letter in LETTERS.items()),
    *_MEASURED[:-1],
    Column("status", "status"),
    Column("reason or warning", "remark"),
    *(Column("machine", "machine"), Column("run", "run")),
)
FASTEST = (SIZE, Column("fastest", "kernel"), Column("ties", ("ties",), _several), TIME, SPEEDUP)
# What tells the rows of one table apart that is not the same in all.
APART = (Column("device", "device"), Column("machine", "machine"), Column("run", "run"))
_TIED = Column("fastest", ("kernel", "ties"), _tied)
STEPS = (SIZE, _TIED, TIME, Column("torch.nn", "baseline_s", format_time), SPEEDUP)
_JACOBIAN_TIME = ("status", "time_ratio", "time_ratio_low", "time_ratio_high")
OVERVIEW = (
    *(DEVICE_DTYPE, *STEPS),
    Column("Jacobian: time", _JACOBIAN_TIME, _unless_missing),
    Column("Jacobian: memory", ("status", "memory_ratio"), _unless_missing),
)
JACOBIAN = (
    SIZE,
    Column("time ratio", ("time_ratio", "time_ratio_low", "time_ratio_high"), format_ratio),
    Column("memory ratio", "memory_ratio", format_ratio),
    Column("predicted", "predicted_memory_ratio", format_ratio),
    Column("peak memory with", "peak_bytes_jacobian", format_bytes),
    Column("predicted with", "predicted_peak_bytes_jacobian", format_bytes),
    Column("peak memory without", "peak_bytes_matmul", format_bytes),
    Column("status", ("status", "kernel"), _failure),
)
_CASES = Column("cases", "cases", _count)
_WHERE = Column("where", (*SIZES, "dtype"), _where)
RATIOS = (
    *(Column("speed", "ratio"), _CASES, Column("geometric mean", "mean", format_ratio)),
    *(Column("least", "least", format_ratio), _WHERE),
)
EFFICIENCY = (
    Column("roofline bound", "bound_s", lambda bound: f"at least {format_time(bound)}"),
    *(_CASES, Column("median efficiency", "median", format_percent)),
    *(Column("least", "least", format_percent), _WHERE, KERNEL),
)
FIRST_CALLS = (
    *(KERNEL, STAGE, _CASES._replace(fields="count")),
    *(Column("median", "median", format_time), Column("most", "max", format_time)),
)
GROWTH = (
    KERNEL,
    Column("sizes", ("axis", "first", "last"),
           lambda axis, first, last: f"{LETTERS[axis]}: {first:,.0f}–{last:,.0f}"),
    Column("at", tuple(SIZES), _held),
    Column("time exponent", ("time_exponent", "time_low", "time_high", "time"), _exponent),
    Column("operations", "time_formula", _power),
    Column("memory exponent",
           ("memory_exponent", "memory_low", "memory_high", "memory"), _exponent),
    Column("predicted", "memory_formula", _power),
)  # fmt: skip
CROSSOVERS = (
    Column("at", tuple(SIZES), _held),
    Column("faster below", "faster_below"),
    Column("faster above", "faster_above"),
    Column("crossover", ("crossover", "axis", "last_size", "first_size"), _crossover),
)
_CASE = (SIZE, KERNEL, STAGE, DEVICE_DTYPE)
FLAGGED = (
    *_CASE,
    Column("outside torch, at least", "untracked_bytes",
           lambda count: format_bytes(count) if count > 0 else UNKNOWN, optional=True),
    Column("warning", "warnings"),
)  # fmt: skip
MISSING = (
    *(*_CASE, Column("status", "status")),
    *(Column("predicted memory", "predicted_peak_bytes", format_bytes), Column("reason", "reason")),
)
CHANGES = (
    *(Column("commit", "commit", lambda commit: str(commit)[:10]), KERNEL, STAGE, DEVICE_DTYPE),
    Column("speedup ÷ the run before", ("change", "change_low", "change_high"), format_ratio),
    *(_CASES, Column("run before", "previous")),
)
METHOD = (Column("method", "name"), Column("", "value"))
