"""Samples of a scaling run -> times of each round; times of a result -> what they say.

Every function is pure and needs no torch. Times are in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..stats.estimators import estimate
from .records import PEERS, ScalingResult, ScalingRun

SHORTEST_S = 1e-9  # that an all-reduce is said to take
Sample = tuple[str, int, str, list[float]]  # candidate, round, part, seconds of each call


def times_by_round(samples: Sequence[Sequence[Sample]]) -> dict[str, dict[str, Any]]:
    """Reduce what every rank measured over calls and ranks, to a value of each round.

    A step lasts as long as on its slowest rank, and its all-reduce what it lasts beyond the slowest
    rank's compute. Of the parts a candidate may have

    * `step`, `ddp` and `single` give `step_s`, `ddp_log_ratios` (ln ddp / step) and
      `single_process_s`, all means over calls;
    * `compute`, which a rank does by itself, and `whole`, that and the all-reduce, give `compute_s`
      (each rank's mean), `compute_max_s` (the mean over calls of the slowest rank) and
      `allreduce_s`.

    Args:
        samples: Those of each rank.

    Returns:
        For each candidate the lists by name; one is empty where its parts were not measured.
    """
    frame = pd.DataFrame(
        [(rank, *sample) for rank, found in enumerate(samples) for sample in found],
        columns=["rank", "candidate", "round", "part", "seconds"],
    )
    frame = frame.explode("seconds").astype({"seconds": float})
    keys = ["part", "candidate", "round"]
    frame["call"] = frame.groupby([*keys, "rank"]).cumcount()
    means = frame.groupby([*keys, "rank"])["seconds"].mean()
    slowest = means.groupby(keys).max()
    slowest_call = frame.groupby([*keys, "call"])["seconds"].max().groupby(keys).mean()

    def times(of: pd.Series, part: str, candidate: str) -> pd.Series:
        return of.xs((part, candidate)) if (part, candidate) in of.index else pd.Series(dtype=float)

    found = {}
    for name in frame["candidate"].unique():
        step, ddp, whole = (times(slowest, part, name) for part in ("step", "ddp", "whole"))
        compute_max = times(slowest_call, "compute", name)
        columns = {
            "step_s": step,
            "single_process_s": times(slowest, "single", name),
            "compute_max_s": compute_max,
            "allreduce_s": (whole - compute_max).clip(lower=SHORTEST_S),
            "ddp_log_ratios": (ddp / step).map(math.log) if len(ddp) else ddp,
        }
        found[name] = {column: values.tolist() for column, values in columns.items()}
        by_rank = times(means, "compute", name)
        found[name]["compute_s"] = by_rank.unstack().to_numpy().tolist() if len(by_rank) else []
    return found


def median(values: Sequence[float]) -> float:
    """Return the median, NaN of no value."""
    return float(np.median(values)) if values else math.nan


def speedups(one: ScalingResult) -> list[float]:
    """Return, of each round, one process's time over the step's of all."""
    return [a / b for a, b in zip(one.single_process_s, one.step_s, strict=True)]


def efficiency(run: ScalingRun, one: ScalingResult) -> float:
    """Return the median over rounds of single / (P · step) if strong, single / step if weak."""
    return median(speedups(one)) / (run.world if run.mode == "strong" else 1)


def load_imbalance(one: ScalingResult) -> float:
    """Return the median over rounds of the slowest rank's compute over the fastest's."""
    return median([max(ranks) / min(ranks) for ranks in one.compute_s])


def ddp_speedup(one: ScalingResult) -> tuple[float, float, float] | None:
    """Return how many times as fast as DDP a kernel is, and the ends of its 95 % interval.

    The ends are NaN where there was one round; None where there is no ratio.
    """
    if not one.ddp_log_ratios:
        return None
    centre, low, high = estimate(one.ddp_log_ratios, None)
    low, high = (math.nan if end is None else math.exp(end) for end in (low, high))
    return math.exp(centre), low, high


def largest_case(run: ScalingRun, own: bool = False) -> list[ScalingResult]:
    """Return what is ok at the case with the most work, m·n·o, in float64 if any is; fastest first.

    Args:
        run: The run.
        own: Leave the peers out.
    """
    found = [one for one in run.results if one.status == "ok" and not (own and one.kernel in PEERS)]
    dtype = max((one.dtype for one in found), default="", key=lambda name: name == "float64")
    found = [one for one in found if one.dtype == dtype]
    most = max((one.case for one in found), key=lambda case: (math.prod(case), case), default=())
    return sorted((one for one in found if one.case == most), key=lambda one: median(one.step_s))
