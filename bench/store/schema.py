"""The run file's schema: pytest-benchmark's JSON plus what this suite adds, as pydantic models.

Fields that are not named here are kept as they came. Numbers are finite, times above zero.
"""

import re
from collections import Counter
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from ..common.shard import Shard

SCHEMA = 1
STATUSES = ("ok", "infeasible", "oom", "timeout", "crashed", "wrong", "unsupported")

Status = Literal["ok", "infeasible", "oom", "timeout", "crashed", "wrong", "unsupported"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
# These become part of file names.
Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")]
Size = Annotated[int, Field(gt=0, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Above = Annotated[float, Field(gt=0)]
Amount = Annotated[float, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="allow", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class Case(_Model):
    """What was to be measured: one kernel at one size."""

    stage: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,40}$")]
    kernel: Name
    baseline: Name
    device: Slug
    dtype: Slug
    batch: Size
    in_features: Size
    out_features: Size
    role: Literal["kernel", "auto", "peer"] = "kernel"

    def key(self) -> tuple[str | int, ...]:
        """Return what the entry of a benchmark and its outcome must share."""
        size = (self.batch, self.in_features, self.out_features)
        return (self.stage, self.kernel, self.baseline, self.device, self.dtype, *size)


class Outcome(Case):
    """One planned case and what became of it."""

    fullname: Name
    status: Status
    reason: str | None = None
    predicted_peak_bytes: Amount | None = None
    flops: Amount | None = None
    bytes_moved: Amount | None = None


class ExtraInfo(Case):
    """The columns a benchmark carries beside its times."""

    status: Literal["ok"]
    reason: str | None = None
    max_rel_error: Amount | None = None
    speedup: Above | None = None
    speedup_low: Above | None = None
    speedup_high: Above | None = None
    passes: Size | None = None
    peak_bytes: Amount | None = None
    predicted_peak_bytes: Amount | None = None
    flops: Amount | None = None
    bytes_moved: Amount | None = None
    floor_s: Above | None = None
    efficiency: Above | None = None
    contended_passes: Count | None = None
    outside_torch_bytes: Amount | None = None
    device_hot_s: Above | None = None
    device_cold_s: Above | None = None
    launch_gap_s: Amount | None = None
    first_call_s: Above | None = None
    suspicions: list[Sentence] = []

    @model_validator(mode="after")
    def _interval_in_order(self) -> Self:
        low, mid, high = self.speedup_low, self.speedup, self.speedup_high
        ends = [value for value in (low, mid, high) if value is not None]
        if ends != sorted(ends):
            raise ValueError("speedup_low, speedup, speedup_high must be in this order")
        return self


class Stats(_Model):
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
        order = (self.min, self.q1, self.median, self.q3, self.max)
        # Interpolated quartiles of equal times may be off by a rounding.
        if any(a > b * (1 + 1e-9) for a, b in pairwise(order)):
            raise ValueError("min, q1, median, q3, max must be in this order")
        return self


class Take(_Model):
    """What one pass, a process of its own, measured of a case, and how quiet the machine was.

    `paired_s` is the time of one call in the paired slices, `busy` the CPU seconds per second of
    them, `first_call_s` the time of binding and the first call. `steal`, `others` and `load` are in
    cores: taken by the hypervisor, by other processes, and the one-minute load average.
    """

    number: Count = Field(alias="pass")
    median_s: Above
    rounds: Size
    log_speedup: float | None = None
    quads: Count = 0
    paired_s: Above | None = None
    busy: Amount | None = None
    device_hot_s: Above | None = None
    device_cold_s: Above | None = None
    launch_gap_s: Amount | None = None
    first_call_s: Above | None = None
    contended: bool = False
    steal: Amount | None = None
    others: Amount | None = None
    load: Amount | None = None
    cpu_mhz: Above | None = None
    gpu_mhz: Above | None = None
    gpu_throttled: bool | None = None


class Benchmark(_Model):
    """One measured case."""

    name: Name
    fullname: Name
    extra_info: ExtraInfo
    stats: Stats
    takes: list[Take] = []


class Commit(_Model):
    """The code that was measured."""

    id: Name
    dirty: bool
    branch: str | None = None


class Ceilings(_Model):
    """What a device reached in the suite's own probes."""

    dispatch_s: Above | None = None
    # Pairs of a working set in bytes and the rate over it.
    bandwidth_bytes_per_s: list[Annotated[list[Above], Field(min_length=2, max_length=2)]] = []
    flops_per_s: dict[str, Above] = {}


class Machine(_Model):
    """Where it was measured."""

    slug: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    cpu: str | None = None
    cores: Size | None = None
    memory_bytes: Size | None = None
    gpu: str | None = None
    ceilings: dict[str, Ceilings] = {}


class Cost(_Model):
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


class Head(_Model):
    """What tells one run from another: when, where and how it was measured, without its cases."""

    schema_version: Literal[1] = Field(alias="schema")
    datetime: str
    machine: Machine
    settings: dict[str, Any]
    commit_info: Commit
    packages: dict[str, str]
    cost: Cost | None = None

    @field_validator("datetime")
    @classmethod
    def _is_iso(cls, value: str) -> str:
        datetime.fromisoformat(value)
        return value

    @field_validator("settings")
    @classmethod
    def _names_its_plan(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "shard" in value:
            Shard.read(str(value["shard"]))
            if re.fullmatch(r"[0-9a-f]{8,64}", str(value.get("plan"))) is None:
                raise ValueError("a shard must name its plan, in 8 to 64 hexadecimal digits")
        return value

    @property
    def shard(self) -> Shard | None:
        """Which part of a plan it is; None where it is a whole run."""
        text = self.settings.get("shard")
        return None if text is None else Shard.read(str(text))


class Run(Head):
    """One immutable run: every planned case, the measured ones with their numbers."""

    outcomes: list[Outcome]
    benchmarks: list[Benchmark]

    @model_validator(mode="after")
    def _joined(self) -> Self:
        planned = {outcome.fullname: outcome for outcome in self.outcomes}
        if len(planned) != len(self.outcomes):
            raise ValueError("each fullname may be in outcomes once")
        measured = Counter(benchmark.fullname for benchmark in self.benchmarks)
        for name, count in measured.items():
            if name not in planned or planned[name].status != "ok" or count != 1:
                raise ValueError(f"only an ok outcome has a benchmark, and one: {name!r} breaks it")
        for name, outcome in planned.items():
            if outcome.status == "ok" and name not in measured:
                raise ValueError(f"an ok outcome must have a benchmark: {name!r} has none")
        for benchmark in self.benchmarks:
            if benchmark.extra_info.key() != planned[benchmark.fullname].key():
                raise ValueError(f"benchmark and outcome {benchmark.fullname!r} differ in the case")
        return self
