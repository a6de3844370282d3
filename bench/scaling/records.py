"""Stored scaling runs: read, and how far more workers bring a step. Needs no torch.

In a scaling run P processes share the rows of a batch, add up their gradients with one all-reduce,
and take the same step. *Strong*: the batch stays as it is. *Weak*: each process brings rows of its
own. Times are in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import special

from ..store.records import load_record, newest
from ..store.schema import Above, Amount, Commit, Count, Name, Size, Slug

DDP, STATISTICS = "ddp", "statistics"  # the peers; every other kernel is our own


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="forbid")


class RankOf(_Model):
    """Where one of the processes ran."""

    rank: Count
    machine: Slug
    host: Name
    cores: Size
    threads: Size


class Exchange(_Model):
    """One all-reduce of so many bytes after work of so many seconds, a value for each round.

    `swept` is what differs from the other all-reduces: the bytes of the message, or the work.
    """

    world: Annotated[Size, Field(ge=2)]
    swept: Literal["bytes", "work"]
    bytes: Size
    work_s: Above
    seconds: Annotated[list[Above], Field(min_length=1)]
    fitted: bool


class Scaled(_Model):
    """One kernel at one size: the seconds of each round.

    `step_s` is the step's over all ranks, `alone_s` one process's in the same round (strong: with
    all the rows, weak: with one rank's), `compute_s` what each rank does of a step by itself,
    `slowest_s` that of the rank that is the slowest at each step, `exchange_s` what the step takes
    beyond it: the all-reduce. These three are empty where both overlap. `ddp_log_ratios` is
    ln(DDP's step time / this kernel's), in turns.
    """

    kernel: Name
    dtype: Slug
    batch: Size
    in_features: Size
    out_features: Size
    status: Literal["ok", "wrong", "unsupported", "crashed"]
    reason: Annotated[str, Field(max_length=1000)] | None
    max_rel_error: Amount | None
    message_bytes: Size
    step_s: list[Above]
    alone_s: list[Above]
    compute_s: list[list[Above]]
    slowest_s: list[Above]
    exchange_s: list[Above]
    ddp_log_ratios: list[float]

    @model_validator(mode="after")
    def _a_value_each_round(self) -> Self:
        rounds = len(self.step_s)
        split = {len(self.compute_s), len(self.slowest_s), len(self.exchange_s)}
        if split not in ({0}, {rounds}) or len(self.alone_s) != rounds:
            raise ValueError(
                "step_s, alone_s, compute_s, slowest_s and exchange_s need a value each round"
            )
        if len(self.ddp_log_ratios) not in {0, rounds}:
            raise ValueError("ddp_log_ratios need a value each round, or none")
        if (self.status == "ok") != (rounds > 0):
            raise ValueError("an ok case has times, and no other has")
        return self

    @property
    def case(self) -> tuple[int, int, int]:
        """m, n and o."""
        return self.batch, self.in_features, self.out_features


class Scaling(_Model):
    """What so many processes of one machine did, as `python -m bench scale` stores it."""

    version: Literal[1] = Field(alias="schema")
    datetime: Name
    commit_info: Commit
    machine: Slug
    mode: Literal["strong", "weak"]
    world: Size
    settings: dict[str, Any]
    packages: dict[str, str]
    ranks: list[RankOf]
    scaled: list[Scaled]
    exchanges: list[Exchange]

    @model_validator(mode="after")
    def _a_value_each_rank(self) -> Self:
        counts = {len(ranks) for one in self.scaled for ranks in one.compute_s}
        if {len(self.ranks), *counts} != {self.world}:
            raise ValueError("ranks and each round's compute_s need a value for each of `world`")
        return self


class Ratio(NamedTuple):
    """A ratio, and the ends of its 95 % interval, NaN where there is none."""

    ratio: float
    low: float
    high: float


def load_scaling(path: Path) -> Scaling:
    """Read a stored scaling run.

    Raises:
        UserError: The file cannot be read, or holds something else.
    """
    is_what = "a scaling run is what `python -m bench scale` writes"
    return load_record(path, Scaling, "a scaling run takes", is_what)


def latest_scalings(folder: Path) -> list[Scaling]:
    """Return the newest run of each machine, mode and world below a folder, in a fixed order.

    Raises:
        UserError: One of the files cannot be read.
    """
    loaded = [load_scaling(path) for path in sorted(folder.rglob("*.json"))]
    return newest(loaded, lambda one: (one.machine, one.mode, one.world))


def scaling_name(scaling: Scaling) -> str:
    """Return how the names of its files begin: its machine, mode and world."""
    return f"{scaling.machine}-{scaling.mode}-{scaling.world}"


def speedups(one: Scaled) -> list[float]:
    """Return, of each round, one process's time over the step's of all."""
    return [alone / step for alone, step in zip(one.alone_s, one.step_s, strict=True)]


def efficiency(scaling: Scaling, one: Scaled) -> float:
    """Return the median over rounds of alone / (P · step) where strong, alone / step where weak."""
    shared = scaling.world if scaling.mode == "strong" else 1
    return median(speedups(one)) / shared


def straggling(one: Scaled) -> float:
    """Return the median over rounds of the slowest rank's compute over the fastest's."""
    return median([max(ranks) / min(ranks) for ranks in one.compute_s])


def ddp_ratio(one: Scaled) -> Ratio | None:
    """Return how many times as fast as DDP a kernel is: exp of the mean log ratio over rounds.

    The interval is Student's for that mean, with rounds − 1 degrees of freedom; one round has none.
    """
    logs = np.array(one.ddp_log_ratios)
    if not len(logs):
        return None
    half = math.nan
    if len(logs) > 1:
        half = special.stdtrit(len(logs) - 1, 0.975) * logs.std(ddof=1) / math.sqrt(len(logs))
    return Ratio(*np.exp(logs.mean() + np.array([0.0, -half, half])).tolist())


def largest(scaling: Scaling, own: bool = False) -> list[Scaled]:
    """Return what is ok at the case with the most work, m·n·o, in float64 if any is; fastest first.

    Args:
        scaling: The run.
        own: Leave the peers out.
    """
    found = [one for one in scaling.scaled if one.status == "ok"]
    found = [one for one in found if not (own and one.kernel in {DDP, STATISTICS})]
    dtypes = [one.dtype for one in found]
    found = [one for one in found if one.dtype == ("float64" if "float64" in dtypes else dtypes[0])]
    most = max((one.case for one in found), key=lambda case: (math.prod(case), case), default=())
    return sorted((one for one in found if one.case == most), key=lambda one: median(one.step_s))


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(np.median(values)) if values else math.nan
