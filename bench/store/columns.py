"""The columns of a run, each declared once.

From this list follow the models of `schema`, what becomes of the samples of several processes, the
frame with its types, CSV and Parquet, headings of tables, and the table in `results/README.md`.
A new column is an entry here and a value from the code that measures it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import AfterValidator, Field, StringConstraints

from ..common.units import format_bytes, format_error, format_predicted, format_time

# The axes of an operation on a linear layer, which have letters; others are called by their names.
LETTERS = {"batch": "m", "in_features": "n", "out_features": "o"}
SIZES = tuple(LETTERS)

Name = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
# These become part of file names.
Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")]
Size = Annotated[int, Field(gt=0, lt=2**63)]


def _no_column(axis: str) -> str:
    if axis in FRAME:
        raise ValueError(f"an axis has a name that no column of a run has; {axis} is one")
    return axis


# A word of letters, digits and `_`, as Python's names: it becomes a column of the frame.
Axis = Annotated[str, StringConstraints(pattern=r"^[^\W\d]\w{0,49}$"), AfterValidator(_no_column)]
Sizes = Annotated[dict[Axis, Size], Field(min_length=1)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Above = Annotated[float, Field(gt=0)]
Amount = Annotated[float, Field(ge=0)]
Log = Annotated[float, Field(ge=-100, le=100)]  # of a ratio
Status = Literal["ok", "infeasible", "oom", "timeout", "crashed", "wrong", "unsupported"]
STATUSES: tuple[str, ...] = get_args(Status)
BOUNDS = ("dispatch", "cache", "memory", "compute")  # of a roofline
Role = Literal["kernel", "auto", "peer"]
ToleranceOf = Literal["bound", "baseline"]


class Column(NamedTuple):
    """One column."""

    name: str  # ends in the unit where there is one
    meaning: str  # in the words of `results/README.md`
    type: Any  # what a value may be, or None where it may be missing
    heading: str = ""  # in a table
    format: Callable[[Any], str] = str  # for a table
    # How the samples become one value; a column with it is in each sample and in what was measured.
    reduce: Callable[[Sequence[Any]], Any] | None = None

    @property
    def dtype(self) -> str:
        """The type of the frame's column; what may be missing is NaN there."""
        for known, dtype in ((bool, "bool"), (bool | None, "boolean"), (Size, "int64")):
            if self.type == known:
                return dtype
        numbers = (Size | None, Count | None, Above | None, Amount | None, float | None)
        return "float64" if self.type in numbers else "object"


# What the frame alone has: it is made from the rest of the run.
OF_FRAME = (
    Column("run", "name of the run's file", str, "run"),
    Column("datetime", "when it was stored", str),
    Column(
        "commit",
        "what was measured; of an installed suite its version and a hash",
        str,
    ),
    Column("dirty", "whether there were uncommitted changes", bool),
    Column("machine", "slug of the machine", str, "machine"),
    Column("fullname", "pytest's id of the benchmark", str),
    Column("axes", "names of the operation's axes: `batch, in_features, out_features`", str),
    Column("case", "their sizes, in the same order: `33x6x3`", str),
    Column("bound", f"what sets the roofline bound: {', '.join(BOUNDS)}", str | None),
    Column("efficiency", "`roofline_s` ÷ `median_s`", Above | None, "roofline efficiency"),
    Column("efficiency_cold", "`roofline_cold_s` ÷ `cold_s`", Above | None, "the same, cold"),
)
OF_CASE = (
    Column("operation", "operation", Slug, "operation"),
    Column("kernel", "way of computing it", Name, "kernel"),
    Column("baseline", "kernel that `speedup` is over", Name),
    Column("device", "device", Slug, "device"),
    Column("dtype", "type of the numbers", Slug, "dtype"),
    Column("sizes", "size of each axis of the operation, in its order: an object in a run file; in "
           "the frame a column for each axis, such as `batch`, empty where an operation has not "
           "that axis. Older run files have such columns too", Sizes),
    Column("threads", "threads that its process had; older runs say it for all cases in their "
           "settings", Size, "threads"),
    Column("role", "`kernel`, `auto` (takes one of them) or `peer` (others' work)", Role),
)  # fmt: skip
# What all kernels share that are paired with the same baseline on the same inputs.
SHARED = ["operation", "baseline", "device", "dtype", "case", "threads"]
OF_PLAN = (
    Column("status", f"one of `{' '.join(STATUSES)}`", Status, "status"),
    Column("reason", "why it is not ok", str | None),
    Column("iterative", "whether one call is a whole training of many steps, which no ranking "
           "holds beside single calls; older runs do not say it", bool | None),
    Column("predicted_peak_bytes", "bytes of one call beyond its inputs, outputs included, by the "
           "kernel's formula; this and the next ones are empty where no formula is declared",
           Amount | None, "predicted", format_predicted),
    Column("flops", "operations of one call, by the kernel's formula", Amount | None),
    Column("bytes_moved", "least bytes of a call, by the kernel's formula", Amount | None),
    Column("least_flops", "operations no kernel does without, from new inputs", Amount | None),
    Column("least_bytes", "bytes that no kernel does without", Amount | None),
    Column("input_bytes", "bytes of the inputs", Amount | None),
)  # fmt: skip
# The names of pytest-benchmark's statistics, which have no `_s` there. In the frame they are in the
# scale of the paired slices.
OF_STATS = (
    Column("median_s", "seconds of one call in the paired slices: the median over processes of the "
           "baseline's there, in its pairs with every kernel, ÷ the speedup", Above | None),
    Column("q1_s", "lower quartile of the processes' medians", Above | None),
    Column("q3_s", "their upper quartile", Above | None),
    Column("rounds", "how many they are", Size | None),
)  # fmt: skip
MEASURED = (
    Column("max_rel_error", "greatest error of an element over the sum of its absolute products; "
           "where `tolerance_of` is `baseline`, over the largest element of its result",
           Amount | None, "max. rel. error", format_error),
    Column("tolerance_of", "what this error was held against: `bound`, that of its operation, or "
           "`baseline`, a multiple of the baseline's own error", ToleranceOf | None,
           "error held against"),
    Column("speedup", "the baseline's time ÷ the kernel's", Above | None, "speedup vs. {baseline}"),
    Column("speedup_low", "low end of its 95 % interval over processes; empty where there was one",
           Above | None),
    Column("speedup_high", "high end", Above | None),
    Column("cold_s", "seconds of one call whose inputs lie in no cache: the median of the "
           "processes' medians", Above | None, "time, cold", format_time, median),
    Column("speedup_cold", "the baseline's time ÷ the kernel's, both with such inputs",
           Above | None, "speedup, cold"),
    Column("speedup_cold_low", "low end of its 95 % interval over processes", Above | None),
    Column("speedup_cold_high", "high end", Above | None),
    Column("processes", "processes that count", Size | None),
    Column("contended_processes", "disturbed processes, also those that do not count",
           Count | None),
    Column("peak_bytes", "bytes of one call beyond its inputs, outputs included, as they were "
           "asked for; of a CUDA graph, in its capture", Amount | None, "peak memory",
           format_bytes),
    Column("untracked_bytes", "bytes seen beyond torch's own, at least", Amount | None),
    Column("paired_s", "seconds of one call in the paired slices, on CUDA 1 ÷ the throughput of "
           "calls launched in a row: the median of the processes'", Above | None, reduce=median),
    Column("roofline_s", "roofline bound: the least seconds that this machine needs for the case",
           Above | None),
    Column("roofline_cold_s", "the same with inputs from memory", Above | None),
    Column("device_hot_s", "CUDA: seconds that one call keeps the device busy, with a hot L2 "
           "cache; empty where a call waits for the device, or works on a stream of its own",
           Above | None, "device time, hot", format_time, median),
    Column("device_cold_s", "CUDA: the same with inputs that the L2 cache does not hold",
           Above | None, "device time, cold", format_time, median),
    Column("launch_gap_s", "CUDA: `paired_s` beyond `device_hot_s`, below 0 by noise",
           float | None, "launch gap", format_time, median),
    # The most: in the process that had not compiled or loaded anything for another case before.
    Column("first_call_s", "seconds of binding and the first call, compilation included: the most "
           "of all processes", Above | None, reduce=max),
    Column("warnings", "warnings, a sentence each", list[Sentence] | None),
)  # fmt: skip
REDUCED = tuple(column for column in MEASURED if column.reduce)
SAMPLE = (
    *REDUCED,
    Column("median_s", "seconds of one call: the median of its rounds", Above),
    Column("rounds", "rounds", Size),
    Column("log_speedup", "logarithm of the paired speedup", Log | None),
    Column("log_speedup_cold", "logarithm of the paired speedup with cold inputs", Log | None),
    Column("abba_blocks", "ABBA blocks behind it", Count | None),
    Column("cpu_utilisation", "CPU seconds per second of them", Amount | None),
    Column("contended", "whether something else used the machine, or it was slow", bool | None),
    Column(
        "slowdown",
        "the baseline's time in it ÷ its usual one in the run, hot or cold: the greater of both",
        Above | None,
    ),
    Column("steal", "cores that the hypervisor took", Amount | None),
    Column("other_cpu", "cores that other processes took", Amount | None),
    Column("load", "load average of one minute", Amount | None),
    Column("cpu_mhz", "clock of the processor", Above | None),
    Column("gpu_mhz", "clock of the GPU, while it was at calls of the benchmark", Above | None),
    Column("gpu_throttled", "whether the GPU was throttled", bool | None),
    Column(
        "persisting_lines_reset",
        "CUDA: whether what kernels asked the L2 cache to keep was let go before each cold call",
        bool | None,
    ),
    Column("gpu_throttled_s", "seconds for which it was, by its power limit or heat, added up "
           "over the reasons", Amount | None),
    Column("gpu_processes", "other processes that compute on the GPU", Count | None),
    Column("gpu_other_bytes", "bytes of the GPU in use beyond what torch holds: by others, and by "
           "the context and libraries of the process", Amount | None),
)  # fmt: skip
FRAME = {column.name: column for column in (*OF_FRAME, *OF_CASE, *OF_PLAN, *OF_STATS, *MEASURED)}


def sizes_of(row: Mapping[str, Any]) -> dict[str, int]:
    """Return the size of each axis of a case, out of its columns; older runs have one for each."""
    return row.get("sizes") or {axis: row[axis] for axis in LETTERS if axis in row}


def letters(axes: Iterable[str]) -> dict[str, str]:
    """Return what each axis of an operation is called: its letter in a layer, else its name.

    >>> letters(["batch", "classes"])
    {'batch': 'batch', 'classes': 'classes'}
    """
    every = list(axes)
    return dict(LETTERS) if every == [*LETTERS] else dict(zip(every, every, strict=True))


def case_of(sizes: Mapping[str, int]) -> str:
    """Write sizes as a case is called.

    >>> case_of({"batch": 33, "in_features": 6, "out_features": 3})
    '33x6x3'
    """
    return "x".join(map(str, sizes.values()))


def reduce_samples(samples: Sequence[Any]) -> dict[str, Any]:
    """Return of each column with a `reduce` the value of several samples; None without any."""
    found: dict[str, Any] = {}
    for column in REDUCED:
        known = [value for one in samples if (value := one.get(column.name)) is not None]
        found[column.name] = column.reduce(known) if known and column.reduce else None
    return found
