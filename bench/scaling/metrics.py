"""Samples of a scaling run -> times of each round -> what they say, and the link they predict.

Pure and without torch. P is the number of processes, s the bytes of a message; times in seconds.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from ..stats.estimators import estimate
from .records import ScalingResult, ScalingRun

SHORTEST_S = 1e-9  # that an all-reduce is said to take
PARTS = ("step", "ddp", "single", "compute", "whole")
Sample = tuple[str, int, str, list[float]]  # candidate, round, one of PARTS, seconds of each call


def times_by_round(samples: Sequence[Sequence[Sample]]) -> dict[str, dict[str, Any]]:
    """Reduce what every rank measured over calls and ranks, to a value of each round.

    A step lasts as long as on its slowest rank, and its all-reduce what it lasts beyond the slowest
    rank's compute. Of the parts a candidate may have

    * `step`, `ddp` and `single` give `step_s`, `ddp_log_ratios` (ln ddp / step) and
      `single_process_s`, all means over calls;
    * `compute`, which a rank does by itself, and `whole`, that and the all-reduce, give `compute_s`
      (each rank's mean), `compute_max_s` (the mean over calls of the slowest rank) and
      `allreduce_s`.

    The samples are those of each rank; a list is empty where its parts were not measured.
    """
    frame = pd.DataFrame(
        [(rank, *sample) for rank, found in enumerate(samples) for sample in found],
        columns=["rank", "candidate", "round", "part", "seconds"],
    )
    frame = frame.explode("seconds").astype({"seconds": float})
    frame["call"] = frame.groupby(["candidate", "round", "part", "rank"]).cumcount()
    found = {}
    for name, rows in frame.groupby("candidate", sort=False):
        means = rows.pivot_table("seconds", "round", ["part", "rank"])
        slowest = means.T.groupby("part").max().reindex(PARTS).T
        calls = rows[rows["part"] == "compute"].groupby(["round", "call"])["seconds"].max()
        compute_max = calls.groupby("round").mean()
        columns = {
            "step_s": slowest["step"],
            "single_process_s": slowest["single"],
            "compute_max_s": compute_max,
            "allreduce_s": (slowest["whole"] - compute_max).clip(lower=SHORTEST_S),
            "ddp_log_ratios": (slowest["ddp"] / slowest["step"]).map(math.log),
        }
        found[str(name)] = {key: values.dropna().tolist() for key, values in columns.items()}
        by_rank = means["compute"].to_numpy().tolist() if len(compute_max) else []
        found[str(name)]["compute_s"] = by_rank
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


def ddp_speedup(one: ScalingResult) -> tuple[float, float, float]:
    """Return how many times as fast as DDP a kernel is, and the ends of its 95 % interval.

    All are NaN where there is no ratio, the ends where there was one round.
    """
    if not one.ddp_log_ratios:
        return math.nan, math.nan, math.nan
    centre, low, high = estimate(one.ddp_log_ratios, None)
    low, high = (math.nan if end is None else math.exp(end) for end in (low, high))
    return math.exp(centre), low, high


def largest_case(run: ScalingRun) -> list[ScalingResult]:
    """Return what is ok at the case with the most work, in float64 if any is, the fastest first."""
    found = [one for one in run.results if one.status == "ok"]
    dtype = max((one.dtype for one in found), default="", key=lambda name: name == "float64")
    found = [one for one in found if one.dtype == dtype]
    most = max((one.case for one in found), key=lambda case: (math.prod(case), case), default=())
    return sorted((one for one in found if one.case == most), key=lambda one: median(one.step_s))


class LinkModel(NamedTuple):
    """What a ring all-reduce costs by Hockney's α-β model."""

    latency_s: float  # α, a message
    s_per_byte: float  # β, adding up included; 0 where bytes cost nothing that is seen

    def all_reduce_s(self, world: int, size: float) -> float:
        """Return the seconds of an all-reduce of `size` bytes over `world` processes.

        T(P, s) = 2(P−1)·α + 2(P−1)/P · s·β. Source: Thakur, Rabenseifner and Gropp (2005),
        Optimization of collective communication operations in MPICH.
        """
        return 2 * (world - 1) * (self.latency_s + size / world * self.s_per_byte)


def fit_link(run: ScalingRun) -> LinkModel | None:
    """Fit α and β to a run's all-reduces; None where there are fewer than two sizes.

    Least squares of T / measured − 1, neither below zero (Lawson and Hanson, 1974).
    """
    sizes = np.array([point.bytes for point in run.all_reduces], dtype=float)
    if len(set(sizes)) < 2:
        return None
    measured = np.array([median(point.seconds) for point in run.all_reduces])
    hops = 2 * (run.world - 1)
    terms = hops * np.stack([np.ones_like(sizes), sizes / run.world]) / measured
    norms = np.linalg.norm(terms, axis=1)  # so that both unknowns are of the order of one
    found, _ = nnls((terms / norms[:, None]).T, np.ones_like(sizes))
    return LinkModel(*(found / norms).tolist())


def predicted_efficiency(run: ScalingRun, one: ScalingResult, link: LinkModel) -> float:
    """Return the efficiency at a step of T₁/P + T(P, s) where strong, T₁ + T(P, s) where weak.

    T₁ is the median of one process's time: the compute is taken to divide without loss.
    """
    compute_s = median(one.single_process_s) / (run.world if run.mode == "strong" else 1)
    return compute_s / (compute_s + link.all_reduce_s(run.world, one.message_bytes))
