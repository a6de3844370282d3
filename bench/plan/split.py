"""A plan -> its shards. All kernels of a case stay together: they are compared with each other."""

from __future__ import annotations

from typing import Any

from ..common.errors import UserError
from ..common.provenance import PlanShard, plan_key
from .benchmark import Benchmark, full_name
from .selection import Selection


def select_shard(
    plan: list[Benchmark], axes: Selection, shard: PlanShard | None
) -> tuple[list[Benchmark], dict[str, Any] | None]:
    """Return a shard of a plan, and what a run file says of it; the whole plan without a shard.

    The shards take turns at the cases in the plan's order, so that each gets small and large ones.

    Raises:
        UserError: There are more shards than cases.
    """
    if shard is None:
        return plan, None
    cases = list(dict.fromkeys(entry.case for entry in plan))
    if shard.total > len(cases):
        raise UserError(
            f"each shard must have a case; the axes leave {len(cases)}, got {shard.total} shards; "
            "give fewer"
        )
    mine = set(cases[shard.number - 1 :: shard.total])
    key = plan_key(map(full_name, plan), axes.grid, axes.seed)
    told = {"shard": str(shard), "plan": key, "seed": axes.seed}
    return [entry for entry in plan if entry.case in mine], told
