"""Stored scaling runs: what such a file holds. Needs no torch.

In a scaling run P processes share the rows of a batch, add up their gradients with one all-reduce,
and take the same step. *Strong*: the batch stays as it is. *Weak*: each process brings rows of its
own. Times are in seconds.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ..store.columns import Above, Amount, Count, Name, Size, Slug
from ..store.files import StoredResult
from ..store.schema import Record

Mode = Literal["strong", "weak"]
DDP = "ddp"
PEERS = (DDP, "statistics")  # every other kernel is our own


class RankInfo(Record):
    """Where one of the processes ran."""

    rank: Count
    machine: Slug
    host: Name
    cores: Size
    threads: Size


class AllReducePoint(Record):
    """All-reduces of one size by themselves: the seconds of each round."""

    bytes: Size
    seconds: Annotated[list[Above], Field(min_length=1)]


class ScalingResult(Record):
    """One kernel on one case: the seconds of each round.

    `step_s` is the step's over all ranks, `single_process_s` one process's in the same round
    (strong: with all the rows, weak: with one rank's), `compute_s` what each rank does of a step by
    itself, `compute_max_s` that of the slowest rank, `allreduce_s` what the step takes beyond it.
    These three are empty where both overlap. `ddp_log_ratios` is ln(DDP's step time / this
    kernel's) from neighbouring slices.
    """

    kernel: Name
    dtype: Slug
    batch: Size
    in_features: Size
    out_features: Size
    status: Literal["ok", "wrong", "unsupported"] = "ok"
    reason: Annotated[str, Field(max_length=1000)] | None = None
    max_rel_error: Amount | None = None
    message_bytes: Size = 1
    step_s: list[Above] = Field(default=[])
    single_process_s: list[Above] = Field(default=[])
    compute_s: list[list[Above]] = Field(default=[])
    compute_max_s: list[Above] = Field(default=[])
    allreduce_s: list[Above] = Field(default=[])
    ddp_log_ratios: list[float] = Field(default=[])

    @model_validator(mode="after")
    def _has_a_value_each_round(self) -> Self:
        rounds = len(self.step_s)
        split = {len(self.compute_s), len(self.compute_max_s), len(self.allreduce_s)}
        if split not in ({0}, {rounds}) or len(self.single_process_s) != rounds:
            raise ValueError("every list of times needs a value for each round of step_s")
        if len(self.ddp_log_ratios) not in {0, rounds}:
            raise ValueError("ddp_log_ratios needs a value for each round, or none")
        if (self.status == "ok") != (rounds > 0):
            raise ValueError("an ok case has times, and no other has")
        return self


class ScalingRun(StoredResult):
    """What so many processes of one machine did, as `python -m bench scaling` stores it."""

    what: ClassVar[str] = "a scaling run"

    mode: Mode
    world: Size
    ranks: list[RankInfo]
    results: list[ScalingResult]
    all_reduces: list[AllReducePoint]
    launches: Size = 1  # how often they were started; the rounds of one follow those of another

    @classmethod
    def joined(cls, runs: Sequence[Self]) -> Self:
        """Return launches of the same cases as one run; a case that one did not do has no times."""
        cases = zip(*(run.results for run in runs), strict=True)
        points = zip(*(run.all_reduces for run in runs), strict=True)
        changed = {
            "results": [next((one for one in some if one.status != "ok"), None) or _joined(some)
                        for some in cases],
            "all_reduces": list(map(_joined, points)),
            "launches": len(runs),
        }  # fmt: skip
        return runs[0].model_copy(update=changed)

    @model_validator(mode="after")
    def _has_a_value_each_rank(self) -> Self:
        counts = {len(ranks) for one in self.results for ranks in one.compute_s}
        if {len(self.ranks), *counts} != {self.world}:
            raise ValueError("ranks and each round's compute_s need a value for each of `world`")
        if any(len(one.step_s) % self.launches for one in self.results):
            raise ValueError("the rounds of a case need to be as many in each of `launches`")
        return self

    @property
    def key(self) -> tuple[str | int, ...]:
        """Its machine, mode and world."""
        return self.machine, self.mode, self.world


def _joined(some: Sequence[Any]) -> Any:
    """Return a record with the lists of all of some, one after another."""
    lists = [name for name, value in some[0] if isinstance(value, list)]
    return some[0].model_copy(
        update={name: [value for one in some for value in getattr(one, name)] for name in lists}
    )
