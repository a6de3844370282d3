"""All-reduces of many sizes -> latency and bandwidth of the link, and the efficiency they predict.

P is the number of processes, s the bytes of a message; times are in seconds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from .metrics import efficiency, median
from .records import PEERS, ScalingResult, ScalingRun


class LinkModel(NamedTuple):
    """What a ring all-reduce costs by Hockney's α-β model.

    Attributes:
        latency_s: α, seconds a message.
        s_per_byte: β, adding up included; 0 where bytes cost nothing that is seen.
    """

    latency_s: float
    s_per_byte: float

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


def prediction_errors(run: ScalingRun, link: LinkModel) -> pd.Series:
    """Return predicted / measured − 1 of the efficiency of each of our own kernels and cases."""
    found = [
        predicted_efficiency(run, one, link) / efficiency(run, one) - 1
        for one in run.results
        if one.status == "ok" and one.kernel not in PEERS
    ]
    return pd.Series(found, dtype=float)


def optimal_world_size(one: ScalingResult, link: LinkModel) -> float:
    """Return the P of the least T₁/P + T(P, s) of strong scaling, infinite where α is zero.

    It is where −T₁/P² + 2α + 2sβ/P² = 0.
    """
    divisible_s = median(one.single_process_s) - 2 * one.message_bytes * link.s_per_byte
    if divisible_s <= 0:
        return 1.0
    return max(1.0, math.sqrt(divisible_s / (2 * link.latency_s))) if link.latency_s else math.inf
