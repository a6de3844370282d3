"""All-reduces that were timed -> a link's latency and bandwidth, and what they foretell.

Every function is pure. P is the number of workers, s the bytes of a message, c the seconds that a
worker computes before it; times are in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar, nnls

from .records import STATISTICS, Exchange, Scaled, Scaling, largest, median

MOST_WORKERS = 4096  # that are predicted
_NOTHING = 1e-9  # of a time that was measured


class Link(NamedTuple):
    """What a ring all-reduce costs: Hockney's α-β model, the call, and what computing leaves cold.

    Attributes:
        call_s: γ, seconds of the call itself.
        latency_s: α, seconds a message.
        bytes_per_s: B, adding up included; infinite where bytes cost nothing that is seen.
        cold_s: ω, seconds more after long computing: threads sleep, caches hold other things, and
            workers come out of step.
        cooling_s: τ, seconds of computing after which it is 63 % of that.
    """

    call_s: float
    latency_s: float
    bytes_per_s: float
    cold_s: float = 0.0
    cooling_s: float = 1.0

    def all_reduce_s(self, world: int, size: int, computed_s: float = 0.0) -> float:
        """Return the seconds of an all-reduce of `size` bytes over `world` processes.

        T(P, s, c) = γ + 2(P−1)·α + 2(P−1)/P · s/B + ω·(1 − e^(−c/τ)), and nothing for one process;
        c is `computed_s`, what a process computes before it. Source, but for ω: Thakur,
        Rabenseifner and Gropp (2005), Optimization of collective communication operations in MPICH.
        """
        if world == 1:
            return 0.0
        hops = 2.0 * (world - 1)
        sent_s = hops * self.latency_s + hops / world * size / self.bytes_per_s
        return self.call_s + sent_s - self.cold_s * math.expm1(-computed_s / self.cooling_s)


LINKS = {
    "10 Gbit Ethernet": Link(0.0, 25e-6, 1.25e9),
    "100 Gbit InfiniBand": Link(0.0, 2e-6, 12.5e9),
    "NVLink 4 within a node": Link(0.0, 1.5e-6, 450e9),
}


def fit_link(exchanges: Iterable[Exchange]) -> Link | None:
    """Fit `Link` to the medians of the exchanges that are to be fitted; None where too few are.

    Least squares of (T − measured) / measured with γ, α, 1/B and ω not below zero (Lawson and
    Hanson), and of τ what leaves least (Brent). With one size of world γ cannot be told from α: it
    is taken as zero, and α has both, which for more processes foretells too long a time rather than
    too short. After work of one length alone ω cannot be told either, and is zero.
    """
    used = [one for one in exchanges if one.fitted]
    if not used:
        return None
    works = [one.work_s for one in used]
    alike = math.isclose(min(works), max(works))
    columns = slice(int(len({one.world for one in used}) == 1), 3 if alike else 4)

    def solved(log_cooling: float) -> tuple[np.ndarray, float, bool]:
        return _solved(_terms(used, math.exp(log_cooling))[:, columns])

    best = 0.0
    if not alike:
        bounds = math.log(min(works) / 2), math.log(max(works) * 2)
        best = minimize_scalar(lambda at: solved(at)[1], bounds=bounds, method="bounded").x
    factors, _, enough = solved(best)
    if not enough:
        return None
    call, latency, per_byte, cold = np.pad(factors, (columns.start, 4 - columns.stop)).tolist()
    link = Link(call, latency, 1 / per_byte if per_byte else math.inf)
    return link._replace(cold_s=cold, cooling_s=math.exp(best)) if cold else link


def _terms(used: Sequence[Exchange], cooling_s: float) -> np.ndarray:
    """Return what γ, α, 1/B and ω are multiplied with in T ÷ measured, a row for each exchange."""
    worlds = np.array([one.world for one in used], dtype=float)
    sizes = np.array([one.bytes for one in used], dtype=float)
    works = np.array([one.work_s for one in used])
    hops = 2 * (worlds - 1)
    columns = [np.ones_like(hops), hops, hops / worlds * sizes, -np.expm1(-works / cooling_s)]
    measured = np.array([[median(one.seconds)] for one in used])
    terms: np.ndarray = np.stack(columns, axis=1) / measured
    return terms


def _solved(terms: np.ndarray) -> tuple[np.ndarray, float, bool]:
    """Return the factors, not below zero, that bring the sum of each row nearest to one.

    And how far from it they leave the rows, and whether there were enough rows to tell them.
    """
    norms = np.linalg.norm(terms, axis=0)
    even = terms / norms
    found, left = nnls(even, np.ones(len(even)))
    found[(even * found).max(axis=0) < _NOTHING] = 0  # what rounding left
    return found / norms, float(left), bool(np.linalg.matrix_rank(even) == len(norms))


def held_out(scaling: Scaling, link: Link) -> pd.DataFrame:
    """Return each exchange that was not fitted: what was measured, and what the link predicts.

    Columns: `world`, `swept`, `bytes`, `work_s`, `measured_s`, its median, `predicted_s`, and
    `off`, which is predicted / measured − 1.
    """
    rows = [
        (one.world, one.swept, one.bytes, one.work_s, median(one.seconds),
         link.all_reduce_s(one.world, one.bytes, one.work_s))
        for one in scaling.exchanges
        if not one.fitted
    ]  # fmt: skip
    columns = ["world", "swept", "bytes", "work_s", "measured_s", "predicted_s"]
    return _with_off(pd.DataFrame(rows, columns=columns))


def step_errors(scaling: Scaling, link: Link) -> pd.DataFrame:
    """Return each step that was measured, and what it would take by its compute and the link.

    Columns: `kernel`, `dtype`, m, n and o, `measured_s`, its median, `predicted_s`, what the
    slowest rank does by itself, c, + T(P, s, c), and `off`, which is predicted / measured − 1. Left
    out are a step whose parts overlap, and the statistics', with work of its own afterwards.
    """
    rows = [
        (one.kernel, one.dtype, *one.case, median(one.step_s),
         _step_s(median(one.slowest_s), one, link, scaling.world))
        for one in scaling.scaled
        if one.compute_s and one.kernel != STATISTICS
    ]  # fmt: skip
    columns = ["kernel", "dtype", "batch", "in_features", "out_features"]
    return _with_off(pd.DataFrame(rows, columns=[*columns, "measured_s", "predicted_s"]))


def predicted_step_s(one: Scaled, link: Link, workers: int) -> float:
    """Return the seconds of a step that P workers share: T(P) = c + T(P, s, c), c = compute₁ / P.

    compute₁ is the median of one process's time. The compute is taken to divide without loss.
    """
    return _step_s(median(one.alone_s) / workers, one, link, workers)


def _step_s(computed_s: float, one: Scaled, link: Link, workers: int) -> float:
    return computed_s + link.all_reduce_s(workers, one.message_bytes, computed_s)


def worth_until(one: Scaled, link: Link) -> int | None:
    """Return the P of the shortest step: beyond it another worker makes it longer.

    None where the step is still getting shorter at the most workers that are predicted.
    """
    alone_s = median(one.alone_s)
    workers = range(1, MOST_WORKERS + 1)
    steps = [_step_s(alone_s / number, one, link, number) for number in workers]
    best = int(np.argmin(steps)) + 1
    return best if best < MOST_WORKERS else None


def predictions(scaling: Scaling, link: Link | None) -> pd.DataFrame:
    """Return T(P) of the fastest own kernel at the largest case, on the stated links and this one.

    A row each for P = 1, 2, 4, … 4096: `link`, `workers`, `step_s`, and of the link `worth_until`,
    NaN where another worker always pays. Strong scaling: a weak run has no prediction.
    """
    columns = ["link", "workers", "step_s", "worth_until"]
    best = largest(scaling, own=True)
    if scaling.mode == "weak" or not best:
        return pd.DataFrame(columns=columns)
    one, powers = best[0], range(MOST_WORKERS.bit_length())
    rows = [
        (name, 2**power, predicted_step_s(one, link, 2**power), until)
        for name, link, until in (
            (name, link, worth_until(one, link)) for name, link in links(scaling, link).items()
        )
        for power in powers
    ]
    return pd.DataFrame(rows, columns=columns).astype({"worth_until": float})


def links(scaling: Scaling, link: Link | None) -> dict[str, Link]:
    """Return the links of the predictions: the stated ones, and what was fitted here."""
    if link is None:
        return LINKS
    hosts = {one.host for one in scaling.ranks}
    name = "this machine's loopback" if len(hosts) == 1 else "the link of these machines"
    return LINKS | {name: link}


def one_world(scaling: Scaling) -> bool:
    """Say whether sums over one number of workers alone were fitted: γ and α are then one."""
    return len({one.world for one in scaling.exchanges if one.fitted}) == 1


def _with_off(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(off=table["predicted_s"] / table["measured_s"] - 1)
