"""Samples of a scaling run -> times of each round -> what they say, and the link they predict.

Needs no torch. P is the number of processes, s the bytes of a message; times in seconds.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from ..stats.estimators import estimate, quartiles
from ..store.columns import SIZES, case_of
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
    measured = np.array([np.median(point.seconds) for point in run.all_reduces])
    hops = 2 * (run.world - 1)
    terms = hops * np.stack([np.ones_like(sizes), sizes / run.world]) / measured
    norms = np.linalg.norm(terms, axis=1)  # so that both unknowns are of the order of one
    found, _ = nnls((terms / norms[:, None]).T, np.ones_like(sizes))
    return LinkModel(*(found / norms).tolist())


def scaling_table(run: ScalingRun) -> pd.DataFrame:
    """Return what was measured of every case, by its work and dtype, the fastest kernel first.

    Beside what is stored, each row has the median over rounds of every time (`step_median_s`), and

    * `speedups`: of each round, one process's time over the step's of all; of a strong run only;
    * `efficiency`: the median over rounds of single / (P · step) if strong, single / step if weak;
    * `predicted`: the efficiency at a step of T₁/P + T(P, s) if strong, T₁ + T(P, s) if weak; T₁ is
      the median of one process's time: the compute is taken to divide without loss;
    * `ddp`, `ddp_low`, `ddp_high`: how many times as fast as DDP, with its 95 % interval over
      launches; of a single launch with the quartiles over its rounds, which tell of no other.
    """
    rows = [one.model_dump() for one in run.results]
    table = pd.DataFrame(rows, columns=[*ScalingResult.model_fields])
    for name in ("step", "single_process", "compute_max", "allreduce"):
        table[f"{name}_median_s"] = [quartiles(times)[1] for times in table[f"{name}_s"]]
    pairs = zip(table["single_process_s"], table["step_s"], strict=True)
    speedups = [[a / b for a, b in zip(*times, strict=True)] for times in pairs]
    shares = run.world if run.mode == "strong" else 1
    table["speedups"] = speedups if run.mode == "strong" else [[]] * len(table)
    table["efficiency"] = [quartiles(ratios)[1] / shares for ratios in speedups]
    compute_s, link = table["single_process_median_s"] / shares, fit_link(run)
    messages = table["message_bytes"]
    all_reduce_s = [link.all_reduce_s(run.world, size) if link else math.nan for size in messages]
    table["predicted"] = compute_s / (compute_s + all_reduce_s)
    ratios = [_ddp_speedup(logs, run.launches) for logs in table["ddp_log_ratios"]]
    table = table.join(pd.DataFrame(ratios, columns=["ddp", "ddp_low", "ddp_high"]))
    table = table.assign(axes=", ".join(SIZES), work=table[[*SIZES]].prod(axis=1))
    table["case"] = [case_of({axis: getattr(one, axis) for axis in SIZES}) for one in run.results]
    return table.sort_values(["work", *SIZES, "dtype", "step_median_s", "kernel"])  # NaN comes last


def _ddp_speedup(logs: Sequence[float], launches: int) -> Sequence[float]:
    """Return the speedup and the ends of its interval or quartiles; NaN without any round."""
    low, centre, high = quartiles(logs)
    if logs and launches > 1:
        values = [float(np.median(some)) for some in np.split(np.array(logs), launches)]
        centre, low, high = (math.nan if log is None else log for log in estimate(values, None))
    return [math.exp(log) for log in (centre, low, high)]
