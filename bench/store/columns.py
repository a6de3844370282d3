"""The columns of a run, each declared once.

From this list follow the models of `schema`, what becomes of the samples of several processes, the
frame with its types, CSV and Parquet, headings of tables, and the table in `results/README.md`.
A new column is an entry here and a value from the code that measures it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import Field, StringConstraints

from ..common.units import format_bytes, format_error, format_percent, format_ratio, format_time

SIZES = ("batch", "in_features", "out_features")

Name = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
# These become part of file names.
Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,40}$")]
Size = Annotated[int, Field(gt=0, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Above = Annotated[float, Field(gt=0)]
Amount = Annotated[float, Field(ge=0)]
Status = Literal["ok", "infeasible", "oom", "timeout", "crashed", "wrong", "unsupported"]
STATUSES: tuple[str, ...] = get_args(Status)
Role = Literal["kernel", "auto", "peer"]

Source = Literal["frame", "case", "plan", "stats", "measured", "sample"]
Reduce = Callable[[Sequence[Any]], Any]


# What a value may be, and its type in the frame; a kind that ends in `?` may be missing as well.
KINDS: dict[str, tuple[Any, str]] = {
    "name": (Name, "object"),
    "slug": (Slug, "object"),
    "word": (Word, "object"),
    "text": (str, "object"),
    "role": (Role, "object"),
    "status": (Status, "object"),
    "sentences": (list[Sentence], "object"),
    "flag": (bool, "bool"),
    "size": (Size, "int64"),
    "count": (Count, "float64"),
    "above": (Above, "float64"),
    "amount": (Amount, "float64"),
    "number": (float, "float64"),
}


class Column(NamedTuple):
    """One column."""

    name: str  # ends in the unit where there is one
    meaning: str  # in the words of `results/README.md`
    kind: str  # one of `KINDS`
    # Where it stands in a run file: of a benchmark's `case`, its `plan`, its `stats` (a time has no
    # `_s` there), what was `measured`, or of one `sample` alone; a column of the `frame` is made.
    source: Source
    # How the samples become one value; a column with it is in each sample and in what was measured.
    reduce: Reduce | None = None
    heading: str = ""  # in a table
    format: Callable[[Any], str] = str  # for a table

    @property
    def is_optional(self) -> bool:
        """Whether a value may be missing."""
        return self.kind.endswith("?")

    @property
    def type(self) -> Any:
        """What a value may be."""
        found = KINDS[self.kind.removesuffix("?")][0]
        return found | None if self.is_optional else found

    @property
    def dtype(self) -> str:
        """The type of the frame's column; what may be missing is NaN there."""
        found = KINDS[self.kind.removesuffix("?")][1]
        return "float64" if self.is_optional and found != "object" else found


_MEDIAN, _MOST = statistics.median, max
COLUMNS = (
    Column("run", "name of the run's file", "text", "frame", heading="run"),
    Column("datetime", "when it was stored", "text", "frame"),
    Column("commit", "what was measured", "text", "frame"),
    Column("dirty", "whether there were uncommitted changes", "flag", "frame"),
    Column("machine", "slug of the machine", "text", "frame", heading="machine"),
    Column("fullname", "pytest's id of the benchmark", "text", "frame"),
    Column("case", "sizes as `m`x`n`x`o`", "text", "frame"),
    Column("operation", "operation", "word", "case", heading="operation"),
    Column("kernel", "way of computing it", "name", "case", heading="kernel"),
    Column("baseline", "kernel that `speedup` is over", "name", "case"),
    Column("device", "device", "slug", "case", heading="device"),
    Column("dtype", "type of the numbers", "slug", "case", heading="dtype"),
    Column("batch", "rows m", "size", "case", heading="m"),
    Column("in_features", "input features n", "size", "case", heading="n"),
    Column("out_features", "output features o", "size", "case", heading="o"),
    Column("role", "`kernel`, `auto` (takes one of them), or `peer` (the work of others)", "role",
           "case"),
    Column("status", f"one of `{' '.join(STATUSES)}`", "status", "plan", heading="status"),
    Column("reason", "why it is not ok", "text?", "plan"),
    Column("predicted_peak_bytes", "bytes of one call beyond its inputs, outputs included, by the "
           "kernel's formula", "amount?", "plan", heading="predicted", format=format_bytes),
    Column("flops", "operations of one call, by the kernel's formula", "amount?", "plan"),
    Column("bytes_moved", "least bytes that one call moves, by the kernel's formula", "amount?",
           "plan"),
    Column("median_s", "seconds of one call: the median of the processes' medians", "above?",
           "stats", heading="median time", format=format_time),
    Column("q1_s", "their lower quartile", "above?", "stats", heading="q1", format=format_time),
    Column("q3_s", "their upper quartile", "above?", "stats", heading="q3", format=format_time),
    Column("min_s", "the least of them", "above?", "stats"),
    Column("mean_s", "their mean", "above?", "stats"),
    Column("stddev_s", "their standard deviation", "amount?", "stats"),
    Column("rounds", "how many they are", "size?", "stats"),
    Column("iterations", "1", "size?", "stats"),
    Column("max_rel_error", "greatest error of an element over the sum of the absolute products "
           "that it is made of", "amount?", "measured", heading="max. rel. error",
           format=format_error),
    Column("speedup", "the baseline's time ÷ the kernel's", "above?", "measured",
           heading="speedup vs. torch.nn", format=format_ratio),
    Column("speedup_low", "low end of its 95 % interval over processes; empty where there was one",
           "above?", "measured", heading="low", format=format_ratio),
    Column("speedup_high", "high end", "above?", "measured", heading="high", format=format_ratio),
    Column("processes", "processes that count", "size?", "measured"),
    Column("contended_processes", "those of them that something else disturbed", "count?",
           "measured"),
    Column("peak_bytes", "bytes of one call beyond its inputs, outputs included", "amount?",
           "measured", heading="peak memory", format=format_bytes),
    Column("untracked_bytes", "bytes seen beyond torch's own, at least", "amount?", "measured"),
    Column("roofline_s", "roofline bound: the least seconds that this machine needs for the case",
           "above?", "measured", heading="roofline bound", format=format_time),
    Column("efficiency", "roofline bound ÷ median time", "above?", "measured",
           heading="roofline efficiency", format=format_percent),
    Column("device_hot_s", "CUDA: seconds on the device with a hot L2 cache", "above?", "measured",
           _MEDIAN, "device, hot", format_time),
    Column("device_cold_s", "CUDA: seconds on the device with a cold L2 cache", "above?",
           "measured", _MEDIAN, "device, cold", format_time),
    Column("launch_gap_s", "CUDA: wall time beyond the device's", "amount?", "measured", _MEDIAN,
           "launch gap", format_time),
    # The most: in the process that had not compiled or loaded anything for another case before.
    Column("first_call_s", "seconds of binding and the first call, compilation included: the most "
           "of all processes", "above?", "measured", _MOST, "first call", format_time),
    Column("warnings", "warnings, a sentence each", "sentences?", "measured"),
    Column("median_s", "seconds of one call: the median of its rounds", "above", "sample"),
    Column("rounds", "rounds", "size", "sample"),
    Column("log_speedup", "logarithm of the paired speedup", "number?", "sample"),
    Column("abba_blocks", "ABBA blocks behind it", "count?", "sample"),
    Column("paired_s", "seconds of one call in the paired slices", "above?", "sample"),
    Column("cpu_utilisation", "CPU seconds per second of them", "amount?", "sample"),
    Column("contended", "whether something else disturbed it", "flag?", "sample"),
    Column("steal", "cores that the hypervisor took", "amount?", "sample"),
    Column("other_cpu", "cores that other processes took", "amount?", "sample"),
    Column("load", "load average of one minute", "amount?", "sample"),
    Column("cpu_mhz", "clock of the processor", "above?", "sample"),
    Column("gpu_mhz", "clock of the GPU", "above?", "sample"),
    Column("gpu_throttled", "whether the GPU was throttled", "flag?", "sample"),
)  # fmt: skip

SAMPLE = tuple(column for column in COLUMNS if column.source == "sample" or column.reduce)


def columns_of(*sources: Source) -> tuple[Column, ...]:
    """Return the columns of some sources, in their order."""
    return tuple(column for column in COLUMNS if column.source in sources)


FRAME = columns_of("frame", "case", "plan", "stats", "measured")


def reduce_samples(samples: Sequence[Any]) -> dict[str, Any]:
    """Return of each column with a `reduce` the value of several samples; None without any."""
    found: dict[str, Any] = {}
    for column in COLUMNS:
        if column.reduce is not None:
            known = [value for one in samples if (value := one.get(column.name)) is not None]
            found[column.name] = column.reduce(known) if known else None
    return found


def documentation() -> str:
    """Return the tables of `results/README.md`: the columns of the frame, and those of a sample."""
    frame = _table("in the frame, and of a benchmark in a run file", FRAME)
    return f"{frame}\n\n{_table('of one sample', SAMPLE)}"


def _table(title: str, columns: Sequence[Column]) -> str:
    rows = [f"| `{column.name}` | {column.meaning} |" for column in columns]
    return "\n".join([f"| {title} | |", "| --- | --- |", *rows])
