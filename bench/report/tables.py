"""Frame -> table: one list of columns each, rendered as Markdown, HTML, or on a terminal."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup
from rich.markup import escape as escape_rich
from rich.table import Table

from ..analysis import frame as frames
from ..analysis.frame import SIZES
from ..common import units
from ..common.errors import single_line
from ..stats.estimators import quartiles
from ..store.columns import FRAME
from .markdown import markdown_table

FLAG = "†"  # a measured case with a warning
LETTERS = {name: FRAME[name].heading for name in SIZES}


def as_text(value: Any) -> str:
    """Write a value that may be missing."""
    return units.UNKNOWN if pd.isna(value) else str(value)


class Column(NamedTuple):
    """A column of a table."""

    heading: str  # at its head
    fields: str | tuple[str, ...]  # the columns of the frame that it shows
    format: Callable[..., str] = as_text  # writes the values of these
    optional: bool = False  # whether it is left out where no row has a value
    once: bool = False  # whether a cell is left empty where it says the same as the one above

    @property
    def names(self) -> list[str]:
        """The columns of the frame, as a list."""
        return [self.fields] if isinstance(self.fields, str) else list(self.fields)

    def write(self, frame: pd.DataFrame) -> list[str]:
        """Write the cell of each row."""
        rows = frame[self.names].itertuples(index=False, name=None)
        said = pd.Series([self.format(*row) for row in rows], dtype=object)
        return list(said.mask(said == said.shift(), "") if self.once else said)


def render(frame: pd.DataFrame, columns: Sequence[Column], to: str = "markdown") -> Any:
    """Return a table of a frame: Markdown, the HTML of its head and rows, or one of `rich`."""
    shown = {column: column.write(frame) for column in columns}
    for column in columns:
        if column.optional and not set(shown[column]) - {units.UNKNOWN, ""}:
            del shown[column]
    if to == "markdown":
        texts = {column.heading: cells for column, cells in shown.items()}
        return markdown_table(pd.DataFrame(texts, dtype=object))
    return _html(frame, shown) if to == "html" else _console(frame, shown)


def _html(frame: pd.DataFrame, shown: dict[Column, list[str]]) -> Markup:
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(one.heading) for one in shown)
    columns = []
    for column, texts in shown.items():
        values, cell = frame[column.names[0]], Markup("<td>{}</td>")
        if pd.api.types.is_numeric_dtype(values):
            values = values.astype(float).fillna(-1)
            cell = Markup('<td data-order="{1:.6g}">{0}</td>')
        pairs = zip(texts, values, strict=True)
        columns.append([cell.format(single_line(text, 300), value) for text, value in pairs])
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


def _speedup(ratio: float, low: float, high: float, kernel: str, baseline: str) -> str:
    if kernel == baseline and ratio == ratio:
        return "baseline"
    return units.format_ratio(ratio, low, high)


def _unless_missing(status: Any, *ratio: float) -> str:
    missing = as_text(status)
    return units.format_ratio(*ratio) if ratio[0] == ratio[0] else missing


def _with_reason(status: str, reason: object) -> str:
    return f"{status}: {reason}" if isinstance(reason, str) else status  # pandas may make None NaN


def with_quartiles(write: Callable[..., str], values: Sequence[float]) -> str:
    """Write the median of some values, with their quartiles in brackets."""
    low, middle, high = quartiles(values)
    return write(middle, low, high)


def _fastest(kernel: str, ties: Sequence[str], doubtful: Sequence[str]) -> str:
    more = f" and {len(ties) - 2} more" if len(ties) > 2 else ""
    unranked = f"; not ranked: {', '.join(doubtful)} {FLAG}" if doubtful else ""
    return " ≈ ".join([kernel, *ties[:2]]) + more + unranked


def _held(*values: Any) -> str:
    pairs = zip(LETTERS.values(), values, strict=True)
    return ", ".join(f"{letter} = {int(size):,}" for letter, size in pairs if not pd.isna(size))


def _power(exponent: float) -> str:
    # With z, what is rounded to zero has no minus.
    return f"{exponent:z.2f}" if exponent == exponent else units.UNKNOWN


def _exponent(value: float, low: float, high: float, state: str) -> str:
    if state != frames.FITTED:
        return units.UNKNOWN if state == frames.UNKNOWN else state
    ends = f" ({_power(low)}–{_power(high)})" if low != high else ""
    return _power(value) + ends


def _crossover(size: float, axis: str, last: float, first: float) -> str:
    about = units.digits(float(f"{size:.2g}")).removesuffix(".0")
    return f"{LETTERS[axis]} ≈ {about} (between {last:,} and {first:,})"


def _declared(name: str, **changes: Any) -> Column:
    """Return a column as a run declares it, under its heading."""
    column = FRAME[name]
    return Column(column.heading, name, column.format)._replace(**changes)


_COUNT = "{:,}".format
SIZE = Column("batch × in → out", tuple(SIZES), units.format_case)
KERNEL, OPERATION, DEVICE, DTYPE, THREADS, STATUS, MACHINE, RUN = map(
    _declared, ("kernel", "operation", "device", "dtype", "threads", "status", "machine", "run")
)
OUTCOME = STATUS._replace(fields=("status", "reason"), format=_with_reason)
DEVICE_DTYPE = Column("device, dtype", ("device", "dtype"), lambda *pair: ", ".join(pair))
PREDICTED = _declared("predicted_peak_bytes")
TIME = Column("time: median (q1–q3)", ("median_s", "q1_s", "q3_s"), units.format_time)
SPEEDUP, SPEEDUP_COLD = (
    _declared(
        name,
        fields=(name, f"{name}_low", f"{name}_high", "kernel", "baseline"),
        format=_speedup,
        optional=name == "speedup_cold",
    )
    for name in ("speedup", "speedup_cold")
)
EFFICIENCY = _declared(
    "efficiency", fields=("efficiency", "bound"), format=units.format_efficiency, optional=True
)
_HOT_AND_COLD = (TIME, SPEEDUP, _declared("cold_s", optional=True), SPEEDUP_COLD)
_MEASURED = (
    *_HOT_AND_COLD,
    *(_declared(f"device_{cache}_s", optional=True) for cache in ("cold", "hot")),
    _declared("launch_gap_s", optional=True),
    EFFICIENCY,
    _declared("efficiency_cold", format=units.format_efficiency, optional=True),
    *(_declared("peak_bytes"), PREDICTED, _declared("max_rel_error")),
)
# All results, on the page, and what chooses among them.
FILTERS = (MACHINE, RUN, OPERATION, DEVICE, DTYPE, THREADS, SIZE, KERNEL, STATUS)
ALL_RESULTS = (
    *(KERNEL, SIZE, OPERATION, DEVICE, DTYPE, THREADS),
    *(_declared(name, format=_COUNT) for name in SIZES),
    *(*_MEASURED, STATUS, Column("reason or warning", "remark"), MACHINE, RUN),
)
FASTEST = (
    *(SIZE, Column("fastest", ("kernel", "ties", "doubtful"), _fastest), TIME),
    *(Column("torch.nn", "baseline_s", units.format_time), *_HOT_AND_COLD[1:]),
)
WHAT = Column("operation, dtype", ("operation", "dtype"), lambda *pair: ", ".join(pair), once=True)
# What tells the rows of one table apart that is not the same in all.
APART = (DEVICE, THREADS, MACHINE, RUN, Column("processes", "processes", "{:.0f}".format))
_JACOBIAN_TIME = ("status", "time_ratio", "time_ratio_low", "time_ratio_high")
OVERVIEW = (
    *(DEVICE_DTYPE, *FASTEST),
    Column("Jacobian: time", _JACOBIAN_TIME, _unless_missing),
    Column("Jacobian: memory", ("status", "memory_ratio"), _unless_missing),
)
JACOBIAN = (
    SIZE,
    Column("time ratio", ("time_ratio", "time_ratio_low", "time_ratio_high"), units.format_ratio),
    Column("memory ratio", "memory_ratio", units.format_ratio),
    Column("predicted", "predicted_memory_ratio", units.format_ratio),
    Column("peak memory with", "peak_bytes_jacobian", units.format_bytes),
    Column("predicted with", "predicted_peak_bytes_jacobian", units.format_bytes),
    Column("peak memory without", "peak_bytes_matmul", units.format_bytes),
    STATUS._replace(
        fields=("status", "kernel"),
        format=lambda status, kernel: status if status == "ok" else f"{kernel}: {status}",
    ),
)
_CASES = Column("cases", "cases", _COUNT)
_WHERE = Column(
    "where", (*SIZES, "dtype"), lambda *case: f"{units.format_case(*case[:3])}, {case[3]}"
)
RATIOS = (
    *(Column("speed", "ratio", once=True), Column("bound by", "bound"), _CASES),
    *(Column(name, key, units.format_ratio)
      for name, key in (("geometric mean", "mean"), ("most", "most"), ("least", "least"))),
    _WHERE,
)  # fmt: skip
EFFICIENCIES = (
    *(Column("roofline bound by", "bound"), _CASES),
    EFFICIENCY._replace(heading="median efficiency", fields=("median", "bound")),
    *(EFFICIENCY._replace(heading="least", fields=("least", "bound")), _WHERE, KERNEL),
)
FIRST_CALLS = (
    *(KERNEL, OPERATION, _CASES._replace(fields="count")),
    *(Column("median", "median", units.format_time), Column("most", "max", units.format_time)),
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
_CASE = (SIZE, KERNEL, OPERATION, DEVICE_DTYPE)
FLAGGED = (
    *_CASE,
    Column("outside torch, at least", "untracked_bytes",
           lambda count: units.format_bytes(count) if count > 0 else units.UNKNOWN, optional=True),
    Column("warning", "warnings"),
)  # fmt: skip
MISSING = (
    *(*_CASE, STATUS, PREDICTED._replace(heading="predicted memory")),
    Column("reason", "reason"),
)
CHANGES = (
    *(Column("commit", "commit", lambda commit: str(commit)[:10]), KERNEL, OPERATION, DEVICE_DTYPE),
    Column("speedup ÷ the run before", ("change", "change_low", "change_high"), units.format_ratio),
    *(Column("bound by", "bound"), _CASES, Column("run before", "previous")),
)
MOVES = (MACHINE, *CHANGES)
