"""The columns of a run, each declared once.

From this list follow the models of `schema`, what becomes of the samples of several processes, the
frame with its types, CSV and Parquet, headings of tables, and the table in `results/README.md`.
A new column is an entry here and a value from the code that measures it.
"""

from collections.abc import Callable, Sequence
from statistics import median
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


class Column(NamedTuple):
    """One column."""

    name: str  # ends in the unit where there is one
    meaning: str  # in the words of `results/README.md`
    type: Any  # what a value may be, or None where it may be missing
    # Where it stands in a run file: of a benchmark's `case`, its `plan`, its `stats` (a time has no
    # `_s` there), what was `measured`, or of one `sample` alone; a column of the `frame` is made.
    source: Source
    # How the samples become one value; a column with it is in each sample and in what was measured.
    reduce: Callable[[Sequence[Any]], Any] | None = None
    heading: str = ""  # in a table
    format: Callable[[Any], str] = str  # for a table

    @property
    def is_optional(self) -> bool:
        """Whether a value may be missing."""
        return type(None) in get_args(self.type)

    @property
    def dtype(self) -> str:
        """The type of the frame's column; what may be missing is NaN there."""
        if self.type in (bool, Size):
            return "bool" if self.type is bool else "int64"
        numbers = (bool, Size, Count, Above, Amount, float)
        return "float64" if any(self.type in (one, one | None) for one in numbers) else "object"


COLUMNS = (
    Column("run", "name of the run's file", str, "frame", heading="run"),
    Column("datetime", "when it was stored", str, "frame"),
    Column("commit", "what was measured", str, "frame"),
    Column("dirty", "whether there were uncommitted changes", bool, "frame"),
    Column("machine", "slug of the machine", str, "frame", heading="machine"),
    Column("fullname", "pytest's id of the benchmark", str, "frame"),
    Column("case", "sizes as `m`x`n`x`o`", str, "frame"),
    Column("operation", "operation", Word, "case", heading="operation"),
    Column("kernel", "way of computing it", Name, "case", heading="kernel"),
    Column("baseline", "kernel that `speedup` is over", Name, "case"),
    Column("device", "device", Slug, "case", heading="device"),
    Column("dtype", "type of the numbers", Slug, "case", heading="dtype"),
    Column("batch", "rows m", Size, "case", heading="m"),
    Column("in_features", "input features n", Size, "case", heading="n"),
    Column("out_features", "output features o", Size, "case", heading="o"),
    Column("role", "`kernel`, `auto` (takes one of them) or `peer` (others' work)", Role, "case"),
    Column("status", f"one of `{' '.join(STATUSES)}`", Status, "plan", heading="status"),
    Column("reason", "why it is not ok", str | None, "plan"),
    Column("predicted_peak_bytes", "bytes of one call beyond its inputs, outputs included, by the "
           "kernel's formula", Amount | None, "plan", heading="predicted", format=format_bytes),
    Column("flops", "operations of one call, by the kernel's formula", Amount | None, "plan"),
    Column("bytes_moved", "least bytes of a call, by the kernel's formula", Amount | None, "plan"),
    Column("median_s", "seconds of one call: the median of the processes' medians", Above | None,
           "stats", heading="median time", format=format_time),
    Column("q1_s", "their lower quartile", Above | None, "stats", heading="q1", format=format_time),
    Column("q3_s", "their upper quartile", Above | None, "stats", heading="q3", format=format_time),
    Column("min_s", "the least of them", Above | None, "stats"),
    Column("mean_s", "their mean", Above | None, "stats"),
    Column("stddev_s", "their standard deviation", Amount | None, "stats"),
    Column("rounds", "how many they are", Size | None, "stats"),
    Column("iterations", "1", Size | None, "stats"),
    Column("max_rel_error", "greatest error of an element over the sum of its absolute products",
           Amount | None, "measured", heading="max. rel. error", format=format_error),
    Column("speedup", "the baseline's time ÷ the kernel's", Above | None, "measured",
           heading="speedup vs. torch.nn", format=format_ratio),
    Column("speedup_low", "low end of its 95 % interval over processes; empty where there was one",
           Above | None, "measured", heading="low", format=format_ratio),
    Column("speedup_high", "high end", Above | None, "measured", heading="high",
           format=format_ratio),
    Column("processes", "processes that count", Size | None, "measured"),
    Column("contended_processes", "those of them disturbed by others", Count | None, "measured"),
    Column("peak_bytes", "bytes of one call beyond its inputs, outputs included", Amount | None,
           "measured", heading="peak memory", format=format_bytes),
    Column("untracked_bytes", "bytes seen beyond torch's own, at least", Amount | None, "measured"),
    Column("roofline_s", "roofline bound: the least seconds that this machine needs for the case",
           Above | None, "measured", heading="roofline bound", format=format_time),
    Column("efficiency", "roofline bound ÷ median time", Above | None, "measured",
           heading="roofline efficiency", format=format_percent),
    Column("device_hot_s", "CUDA: seconds on the device with a hot L2 cache", Above | None,
           "measured", median, "device, hot", format_time),
    Column("device_cold_s", "CUDA: seconds on the device with a cold L2 cache", Above | None,
           "measured", median, "device, cold", format_time),
    Column("launch_gap_s", "CUDA: wall time beyond the device's", Amount | None, "measured",
           median, "launch gap", format_time),
    # The most: in the process that had not compiled or loaded anything for another case before.
    Column("first_call_s", "seconds of binding and the first call, compilation included: the most "
           "of all processes", Above | None, "measured", max, "first call", format_time),
    Column("warnings", "warnings, a sentence each", list[Sentence] | None, "measured"),
    Column("median_s", "seconds of one call: the median of its rounds", Above, "sample"),
    Column("rounds", "rounds", Size, "sample"),
    Column("log_speedup", "logarithm of the paired speedup", float | None, "sample"),
    Column("abba_blocks", "ABBA blocks behind it", Count | None, "sample"),
    Column("paired_s", "seconds of one call in the paired slices", Above | None, "sample"),
    Column("cpu_utilisation", "CPU seconds per second of them", Amount | None, "sample"),
    Column("contended", "whether something else disturbed it", bool | None, "sample"),
    Column("steal", "cores that the hypervisor took", Amount | None, "sample"),
    Column("other_cpu", "cores that other processes took", Amount | None, "sample"),
    Column("load", "load average of one minute", Amount | None, "sample"),
    Column("cpu_mhz", "clock of the processor", Above | None, "sample"),
    Column("gpu_mhz", "clock of the GPU", Above | None, "sample"),
    Column("gpu_throttled", "whether the GPU was throttled", bool | None, "sample"),
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
    titles = {"in the frame, and of a benchmark in a run file": FRAME, "of one sample": SAMPLE}
    tables = []
    for title, columns in titles.items():
        rows = [f"| `{column.name}` | {column.meaning} |" for column in columns]
        tables.append("\n".join([f"| {title} | |", "| --- | --- |", *rows]))
    return "\n\n".join(tables)
