"""A plan -> its shards, by what each case should cost. The same on every machine.

All kernels of a case stay together: they are compared with each other, and share the baseline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import heapreplace
from typing import Any, NamedTuple

from mlr import Case

from ..common.errors import UserError
from ..common.shard import Shard, plan_key
from .benchmark import Benchmark, full_name
from .grid import LONGEST_CALL_S
from .selection import Selection

# A kernel's pass over a case on a processor of two cores: what takes the same at any size, the
# calls, and drawing the inputs and holding the result against the oracle. Fitted to the wall time
# of stored runs, and not measured again: every machine must come to the same split.
FIXED_S = 0.3
CALLS = 10
INPUT_S_PER_BYTE = 2e-8


class Rates(NamedTuple):
    """What a usual device of a kind does in a second."""

    flops: float
    bytes_moved: float


USUAL = {"cpu": Rates(5e10, 3e10), "cuda": Rates(2e13, 3e12)}


def part_of(
    plan: list[Benchmark], axes: Selection, shard: Shard | None
) -> tuple[list[Benchmark], dict[str, Any] | None]:
    """Return a shard of a plan, and what a run file says of it; the whole plan without a shard.

    Raises:
        UserError: There are more shards than cases.
    """
    if shard is None:
        return plan, None
    entries = split(plan, shard.total, LONGEST_CALL_S[axes.grid])[shard.number - 1]
    key = plan_key(map(full_name, plan), axes.grid, axes.seed)
    return entries, {"shard": str(shard), "plan": key, "seed": axes.seed}


def split(plan: Sequence[Benchmark], count: int, longest_s: float) -> list[list[Benchmark]]:
    """Split a plan by what its cases cost: the dearest case first, each to the least shard so far.

    No shard then costs more than 4/3 of what the best split's dearest does. Within a shard the
    cases have the plan's order.

    Args:
        plan: Every case with every kernel of it.
        count: How many shards.
        longest_s: Seconds that a call may take at the very least to be attempted.

    Raises:
        UserError: There are more shards than cases.
    """
    costs = case_costs(plan, longest_s)
    if count > len(costs):
        raise UserError(
            f"each shard must have a case; the axes leave {len(costs)}, got {count} shards; give "
            "fewer"
        )
    least = [(0, number) for number in range(count)]  # sorted, and so a heap
    where: dict[Case, int] = {}
    for case in sorted(costs, key=lambda case: (-costs[case], case.stage, case.id)):
        load, where[case] = least[0]
        heapreplace(least, (load + costs[case], where[case]))
    return [[entry for entry in plan if where[entry.case] == number] for number in range(count)]


def case_costs(plan: Sequence[Benchmark], longest_s: float) -> dict[Case, int]:
    """Return about the nanoseconds that a pass over each case takes, all of its kernels together.

    A whole number: sums of fractions depend on their order, and on Python's version.
    """
    costs: Counter[Case] = Counter()
    for entry in plan:
        costs[entry.case] += _cost_ns(entry, longest_s)
    return dict(costs)


def _cost_ns(entry: Benchmark, longest_s: float) -> int:
    kernel, case = entry
    flops, moved = case.least_flops, case.least_bytes
    if kernel.delegates_to is None:  # whom it stands for is the machine's own rule to say
        flops, moved = kernel.predicted_flops(case), kernel.predicted_bytes_moved(case)
    rates = USUAL[case.device.partition(":")[0]]
    call_s = max(flops / rates.flops, moved / rates.bytes_moved)
    calls_s = CALLS * call_s if call_s <= longest_s else 0.0  # what takes longer is not attempted
    return round(1e9 * (FIXED_S + calls_s + INPUT_S_PER_BYTE * case.input_bytes))
