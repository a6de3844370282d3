"""Frame -> table: one list of columns each, rendered as Markdown, HTML, or on a terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup
from rich.markup import escape as escape_rich
from rich.table import Table

from ..analysis import frame as frames
from ..common import units
from ..common.errors import single_line
from ..stats.estimators import quartiles
from ..store.columns import FRAME, LETTERS, letters
from ..store.runs import axes_in
from .markdown import markdown_table

FLAG = "†"  # a measured case with a warning
_LINEAR = ", ".join(LETTERS)  # the axes that have letters


def as_text(value: Any) -> str:
    """Write a value that may be missing."""
    return units.UNKNOWN if pd.isna(value) else str(value)


class Column(NamedTuple):
    """A column of a table."""

    heading: str  # at its head; see `headed`
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


def axes_in_words(axes: Sequence[str]) -> str:
    """Return the axes of an operation as a sentence has them: `m, n and o`."""
    *some, last = letters(axes).values()
    return f"{', '.join(some)} and {last}" if some else last


def format_shape(sizes: Sequence[int], axes: Sequence[str]) -> str:
    """Write sizes along some axes, of which the last two may be those of a layer: `6 → 3`."""
    texts = [f"{size:,}" for size in sizes]
    if tuple(axes)[-2:] == tuple(LETTERS)[-2:]:
        texts[-2:] = [" → ".join(texts[-2:])]
    return " × ".join(texts)


def _size(case: str, axes: str) -> str:
    return format_shape([int(size) for size in case.split("x")], axes.split(", "))


def format_case(case: str, axes: str) -> str:
    """Write the sizes of a case, with the names of axes that have no letters.

    >>> format_case("10000x6x3", "batch, in_features, out_features")
    '10,000 × 6 → 3'
    >>> format_case("64x1000", "batch, classes")
    '64 × 1,000 (batch × classes)'
    """
    names = "" if axes == _LINEAR else f" ({axes.replace(', ', ' × ')})"
    return _size(case, axes) + names


def headed(columns: Sequence[Column], frame: pd.DataFrame) -> list[Column]:
    """Return columns with the headings of a frame: its baseline and axes, if they are the same.

    These stand for `{baseline}` and `{sizes}`. Where axes differ each size names its own.
    """
    known = {name: frame[name].dropna().unique() for name in ("baseline", "axes") if name in frame}
    alike = {name: values[0] for name, values in known.items() if len(values) == 1}
    axes = alike.get("axes", "size")
    linear = "batch × in → out" if axes == _LINEAR else axes.replace(", ", " × ")
    named = {"baseline": alike.get("baseline", "baseline"), "sizes": linear}
    return [
        column._replace(
            heading=column.heading.format(**named),
            format=_size if column == SIZE and "axes" in alike else column.format,
        )
        for column in columns
    ]


def render(frame: pd.DataFrame, columns: Sequence[Column], to: str = "markdown") -> Any:
    """Return a table of a frame: Markdown, the HTML of its head and rows, or one of `rich`."""
    shown = {column: column.write(frame) for column in headed(columns, frame)}
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
        values, cell = frames.by_size(frame[column.names[0]]), Markup("<td>{}</td>")
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
        table.add_column(
            escape_rich(column.heading), justify="right" if numeric else "left", overflow="fold"
        )
    for row in zip(*shown.values(), strict=True):
        table.add_row(*map(escape_rich, row))
    return table


def _speedup(ratio: float, low: float, high: float, kernel: str, baseline: str) -> str:
    if kernel == baseline and ratio == ratio:
        return "baseline"
    return units.format_ratio(ratio, low, high)


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


def format_held(sizes: Mapping[str, int], axes: str) -> str:
    """Write the sizes of those axes of an operation along which nothing varies: `n = 6, o = 3`."""
    named = letters(axes.split(", "))
    return ", ".join(f"{named[axis]} = {size:,}" for axis, size in sizes.items()) or units.UNKNOWN


def _efficiency(part: float, bound: Any = "memory", status: str = "", *least: float) -> str:
    if status == "ok" and part != part and any(value != value for value in least):
        return units.NOT_DECLARED
    return units.format_efficiency(part, bound)


def bound_in_words(bound: str) -> str:
    """Say what sets the roofline bound of some cases: `memory-bound`."""
    return "bound not declared" if bound == units.NOT_DECLARED else f"{bound}-bound"


def format_error_of(error: float, tolerance_of: Any = None) -> str:
    """Write an error, and what it was held against where that is the baseline's own."""
    held = ", held against the baseline's own" if tolerance_of == "baseline" else ""
    return units.format_error(error) + held


def _power(exponent: float) -> str:
    # With z, what is rounded to zero has no minus.
    return f"{exponent:z.2f}" if exponent == exponent else units.UNKNOWN


def _exponent(value: float, low: float, high: float, state: str) -> str:
    if state != frames.FITTED:
        return units.UNKNOWN if state == frames.UNKNOWN else state
    ends = f" ({_power(low)}–{_power(high)})" if low != high else ""
    return _power(value) + ends


def _letter(axis: str, axes: str) -> str:
    return letters(axes.split(", "))[axis]


def _crossover(size: float, axis: str, axes: str, last: float, first: float) -> str:
    about = units.digits(float(f"{size:.2g}")).removesuffix(".0")
    return f"{_letter(axis, axes)} ≈ {about} (between {last:,} and {first:,})"


def _declared(name: str, **changes: Any) -> Column:
    """Return a column as a run declares it, under its heading."""
    column = FRAME[name]
    return Column(column.heading, name, column.format)._replace(**changes)


_COUNT = "{:,}".format


def _count(value: Any) -> str:
    return units.UNKNOWN if pd.isna(value) else f"{value:,}"


SIZE = Column("{sizes}", ("case", "axes"), format_case)
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
    "efficiency",
    fields=("efficiency", "bound", "status", "least_flops", "least_bytes"),
    format=_efficiency,
    optional=True,
)
_HOT_AND_COLD = (TIME, SPEEDUP, _declared("cold_s", optional=True), SPEEDUP_COLD)
_MEASURED = (
    *_HOT_AND_COLD,
    *(_declared(f"device_{cache}_s", optional=True) for cache in ("cold", "hot")),
    _declared("launch_gap_s", optional=True),
    EFFICIENCY,
    _declared("efficiency_cold", format=units.format_efficiency, optional=True),
    *(_declared("peak_bytes"), PREDICTED, _declared("max_rel_error")),
    _declared("tolerance_of", format=as_text, optional=True),
)
# All results, on the page, and what chooses among them.
FILTERS = (MACHINE, RUN, OPERATION, DEVICE, DTYPE, THREADS, SIZE, KERNEL, STATUS)


def results_columns(frame: pd.DataFrame) -> list[Column]:
    """Return the columns of a table of all results, with one for each axis."""
    named = letters(axes_in(frame))
    axes = [Column(heading, axis, _count) for axis, heading in named.items()]
    case = (KERNEL, SIZE, OPERATION, DEVICE, DTYPE, THREADS)
    rest = (*_MEASURED, STATUS, Column("reason or warning", "remark"), MACHINE, RUN)
    return [*case, *axes, *rest]


FASTEST = (
    *(SIZE, Column("fastest", ("kernel", "ties", "doubtful"), _fastest), TIME),
    *(Column("time of {baseline}", "baseline_s", units.format_time), *_HOT_AND_COLD[1:]),
)
WHAT = Column("operation, dtype", ("operation", "dtype"), lambda *pair: ", ".join(pair), once=True)
# What tells the rows of one table apart that is not the same in all.
APART = (DEVICE, THREADS, MACHINE, RUN, Column("processes", "processes", "{:.0f}".format))
_CASES = Column("cases", "cases", _COUNT)
_WHERE = Column(
    "where", (*SIZE.fields, "dtype"), lambda *case: f"{format_case(*case[:2])}, {case[2]}"
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
    Column("sizes", ("axis", "axes", "first", "last"),
           lambda axis, axes, *ends: f"{_letter(axis, axes)}: {ends[0]:,.0f}–{ends[1]:,.0f}"),
    Column("at", ("held", "axes"), format_held),
    Column("time exponent", ("time_exponent", "time_low", "time_high", "time"), _exponent),
    Column("operations", "time_formula", _power),
    Column("memory exponent",
           ("memory_exponent", "memory_low", "memory_high", "memory"), _exponent),
    Column("predicted", "memory_formula", _power),
)  # fmt: skip
CROSSOVERS = (
    Column("at", ("held", "axes"), format_held),
    Column("faster below", "faster_below"),
    Column("faster above", "faster_above"),
    Column("crossover", ("crossover", "axis", "axes", "last_size", "first_size"), _crossover),
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
