"""The run file's schema: pytest-benchmark's JSON plus what this suite adds, as pydantic models.

The fields of a case, a plan, what was measured and a sample are those of `columns`. Numbers are
finite, times above zero.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    field_validator,
    model_validator,
)

from ..common.units import counted
from . import columns
from .columns import Above, Amount, Count, Name, Role, Size, Slug

SCHEMA = 2


class Record(BaseModel):
    """A part of a stored file; fields that are not named are kept as they came."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)


def _require_order(record: BaseModel, *names: str) -> None:
    values = [value for name in names if (value := getattr(record, name)) is not None]
    # Interpolated quartiles of equal times may be off by a rounding.
    if any(a > b * (1 + 1e-9) for a, b in pairwise(values)):
        raise ValueError(f"{', '.join(names)} must be in this order")


def _with_columns(base: type[BaseModel], declared: Sequence[columns.Column]) -> Any:
    """Return a model with a field for each column."""
    fields: Any = {
        column.name: (column.type, None if type(None) in get_args(column.type) else ...)
        for column in declared
    }
    return create_model("WithColumns", __base__=base, **fields)


class Case(_with_columns(Record, columns.OF_CASE)):  # type: ignore[misc]
    """What was to be measured: one kernel at one size."""

    role: Role = "kernel"
    threads: Size | None = None  # of older runs that of their settings

    @model_validator(mode="before")
    @classmethod
    def _sizes_of_older_runs(cls, values: Any) -> Any:
        known = isinstance(values, dict) and "sizes" not in values
        if known and columns.LETTERS.keys() <= values.keys():
            values = dict(values)
            values["sizes"] = {axis: values.pop(axis) for axis in columns.LETTERS}
        return values

    @property
    def case(self) -> str:
        """Its sizes, as in the frame."""
        return columns.case_of(self.sizes)

    def key(self) -> tuple[str | int, ...]:
        """Return what the entry of a benchmark and its outcome must share."""
        return tuple(getattr(self, each.name) for each in columns.OF_CASE if each.name != "role")


class Outcome(_with_columns(Case, columns.OF_PLAN)):  # type: ignore[misc]
    """One planned case and what became of it."""

    fullname: Name


class ExtraInfo(_with_columns(Case, (*columns.OF_PLAN, *columns.MEASURED))):  # type: ignore[misc]
    """The columns a benchmark carries beside its times."""

    status: Literal["ok"]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _require_order(self, "speedup_low", "speedup", "speedup_high")
        return self


class Sample(_with_columns(Record, columns.SAMPLE)):  # type: ignore[misc]
    """What one process measured of a case, and how quiet the machine was."""

    number: Count = Field(alias="process")


class Stats(Record):
    """The times of one benchmark, in seconds, as pytest-benchmark sums them up."""

    min: Above
    max: Above
    mean: Above
    stddev: Amount
    median: Above
    q1: Above
    q3: Above
    rounds: Size
    iterations: Size
    data: list[Above] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _require_order(self, "min", "q1", "median", "q3", "max")
        return self


def _by_process(samples: Any) -> Any:
    """Return samples that are stored as columns, one value a process, as one record each."""
    if not isinstance(samples, dict):
        return samples
    columns = list(samples.values())
    if not all(isinstance(one, list) and len(one) == len(columns[0]) for one in columns):
        raise ValueError("columns of samples must be lists of one length")
    rows = (zip(samples, row, strict=True) for row in zip(*columns, strict=True))
    return [{name: value for name, value in row if value is not None} for row in rows]


class Benchmark(Record):
    """One measured case."""

    name: Name
    fullname: Name
    extra_info: ExtraInfo
    stats: Stats
    samples: Annotated[list[Sample], BeforeValidator(_by_process)] = []


class Commit(Record):
    """The code that was measured."""

    id: Name
    dirty: bool
    branch: str | None = None


class Roofline(NamedTuple):
    """The roofline bound of a case in seconds, and its longest term."""

    hot_s: float  # inputs in cache where they fit
    cold_s: float  # inputs from memory
    bound: str  # of `columns.BOUNDS`: the term that `hot_s` is


class Ceilings(Record):
    """What a device reached in the suite's own probes: the best of all processes."""

    dispatch_s: Above | None = None
    # Pairs of a working set in bytes and the rate over it.
    bandwidth_bytes_per_s: list[Annotated[list[Above], Field(min_length=2, max_length=2)]] = []
    flops_per_s: dict[str, Above] = {}
    worst: "Ceilings | None" = None  # what every process reached at least; older runs measured once
    cold_bytes_per_s: Above | None = None  # of reading what was evicted; older runs do not have it
    last_cache_bytes: Size = 2**25  # of the machine whose first runs do not say it

    def roofline(self, dtype: str, flops: float, moved: float, inputs: float = 0) -> Roofline:
        """Return max(FLOPs ÷ peak, bytes ÷ bandwidth, one dispatch), of the terms that are known.

        The bandwidth is the highest from the largest measured working set on that is not above the
        case's, or of all where none is: of a smaller set it is higher, so the time is a lower
        bound. Cold inputs come at best at the rate of what was evicted or of the largest set, which
        is the memory's.
        """
        rates, peaks = sorted(self.bandwidth_bytes_per_s), self.flops_per_s
        below = max((size for size, _ in rates if size <= moved), default=0)
        rate = max((rate for size, rate in rates if size >= below), default=math.inf)
        peak = peaks.get(dtype, max(peaks.values(), default=math.inf))
        terms = {
            "dispatch": self.dispatch_s or 0.0,
            "memory" if moved > self.last_cache_bytes else "cache": moved / rate,
            "compute": flops / peak,
        }
        bound, hot_s = max(terms.items(), key=lambda term: term[1])
        cold_rate = max(rates[-1][1] if rates else 0.0, self.cold_bytes_per_s or 0.0)
        return Roofline(hot_s, max(hot_s, inputs / cold_rate if cold_rate else 0.0), bound)


class Machine(Record):
    """Where it was measured."""

    slug: Slug
    cpu: str | None = None
    cores: Size | None = None
    memory_bytes: Size | None = None
    gpu: str | None = None
    ceilings: dict[str, Ceilings] = {}  # see `ceilings_key`; in older runs by device

    def ceilings_of(self, device: str, threads: int) -> Ceilings:
        """Return what a device reached with so many threads; nothing where that is not known."""
        found = self.ceilings.get(ceilings_key(device, threads), self.ceilings.get(device))
        return found or Ceilings()


def ceilings_key(device: str, threads: int) -> str:
    """Return the name of a device's ceilings with so many threads: `cpu, 2 threads`."""
    return f"{device}, {counted(threads, 'thread')}"


class Cost(Record):
    """Where the wall time of a run went, in seconds."""

    wall_s: Above
    warm_up_s: Amount = 0.0
    timing_s: Amount = 0.0
    checking_s: Amount = 0.0
    memory_s: Amount = 0.0

    @property
    def overhead(self) -> float:
        """The share of the wall time that measured nothing: processes started, modules imported."""
        measuring = self.warm_up_s + self.timing_s + self.checking_s + self.memory_s
        return max(0.0, 1 - measuring / self.wall_s)


class StoredFile(Record):
    """What every stored file says: when, how and of which code it was measured."""

    what: ClassVar[str]  # how an error calls it: `a scaling run`

    schema_version: Literal[2] = Field(alias="schema")
    datetime: Name
    settings: dict[str, Any]
    commit_info: Commit
    packages: dict[str, str]

    @property
    def threads(self) -> int | None:
        """How many threads every process had; None where that is not known, or not the same."""
        found = self.settings.get("threads")
        return found if isinstance(found, int) and 0 < found < 10**6 else None

    @field_validator("datetime")
    @classmethod
    def _in_utc(cls, value: str) -> str:
        """Return it so that the order of texts is that of times; without a zone it is UTC."""
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC).isoformat()


def _counted_only(entries: Any) -> Any:
    return [None] * len(entries) if isinstance(entries, list) else entries


class Head(StoredFile):
    """What tells one run from another: when, where and how it was measured, without its cases."""

    model_config = ConfigDict(extra="ignore")
    what: ClassVar[str] = "a run file"

    machine: Machine
    cost: Cost | None = None
    benchmarks: Annotated[Sequence[Any], BeforeValidator(_counted_only)] = ()  # None for each


class Run(Head):
    """One immutable run: every planned case, the measured ones with their numbers."""

    model_config = ConfigDict(extra="allow")

    outcomes: list[Outcome]
    benchmarks: list[Benchmark]

    @model_validator(mode="after")
    def _joined(self) -> Self:
        planned = {outcome.fullname: outcome for outcome in self.outcomes}
        if len(planned) != len(self.outcomes):
            raise ValueError("each fullname may be in outcomes once")
        for benchmark in self.benchmarks:
            name = benchmark.fullname
            outcome = planned.pop(name, None)
            if outcome is None or outcome.status != "ok":
                raise ValueError(f"only an ok outcome has a benchmark, and one: {name!r} breaks it")
            if benchmark.extra_info.key() != outcome.key():
                raise ValueError(f"benchmark and outcome {name!r} differ in the case")
        if left := [name for name, outcome in planned.items() if outcome.status == "ok"]:
            raise ValueError(f"an ok outcome must have a benchmark: {left[0]!r} has none")
        return self


def flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return settings as text, those inside others by a name with dots."""
    found: dict[str, str] = {}
    for key, value in sorted(settings.items()):
        if isinstance(value, dict) and value:
            found |= flatten_settings(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, str):
            found[f"{prefix}{key}"] = value or "–"
        else:
            found[f"{prefix}{key}"] = json.dumps(value)
    return found
