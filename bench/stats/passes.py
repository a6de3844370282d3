"""Takes -> one case: robust centre and interval over passes. Pure, and needs no torch.

A process is one sample. What its rounds say goes into one value; the interval is over processes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
from scipy import special  # and no more of it: every measuring process imports this

CONFIDENCE = 0.95
# The variance of the median of Walsh averages over that of the mean, for normal values.
HODGES_LEHMANN = math.pi / 3


class Estimate(NamedTuple):
    """A centre and the ends of its interval; the ends are None where there is no interval."""

    centre: float
    low: float | None
    high: float | None


class Prior(NamedTuple):
    """What the variances of a run's cases have in common: a scale, and how many passes it weighs.

    Attributes:
        variance: The typical variance of one pass.
        freedom: Its degrees of freedom, at most those of all cases together.
    """

    variance: float
    freedom: float


def hodges_lehmann(values: Sequence[float]) -> float:
    """Return the median of the means of all pairs, each value with itself included.

    One wild process in five does not move it far; for two values it is their mean.

    Raises:
        ValueError: Without a value.
    """
    if not values:
        raise ValueError("a centre needs at least one value; got none")
    return statistics.median((a + b) / 2 for a, b in combinations_with_replacement(values, 2))


def common_prior(samples: Iterable[Sequence[float]]) -> Prior | None:
    """Estimate from all cases of a run how much one pass varies, and how alike the cases are.

    With few passes a case's own variance says little; the others' help. The method of moments on
    the logarithms of the variances, of Smyth 2004, "Linear models and empirical Bayes methods for
    assessing differential expression", section 6.2; but where that finds all cases alike, what they
    have in common is known no better than all their passes tell.

    Args:
        samples: The values of each case, one a pass; cases with fewer than two do not count.

    Returns:
        None where fewer than three cases have a variance.
    """
    from scipy import optimize

    kept = [values for values in samples if len(values) > 1]
    if len(kept) < 3:
        return None
    freedom = np.array([len(values) - 1 for values in kept]) / 2
    variances = np.array([statistics.variance(values) for values in kept])
    known = np.log(np.maximum(variances, 1e-14)) - special.digamma(freedom) + np.log(freedom)
    centre = float(known.mean())
    excess = float(known.var(ddof=1) - special.polygamma(1, freedom).mean())
    total = float(2 * freedom.sum())
    if excess <= 1e-4:
        return Prior(float(np.average(variances, weights=freedom)), total)
    half = optimize.brentq(lambda x: float(special.polygamma(1, x)) - excess, 1e-6, 1e9)
    scale = math.exp(centre + float(special.digamma(half)) - math.log(half))
    return Prior(scale, min(2 * half, total))


def estimate(values: Sequence[float], prior: Prior | None) -> Estimate:
    """Return centre and 95 % interval of one case's values, one a pass.

    The centre is Hodges and Lehmann's. The interval is Student's, with the case's variance drawn
    towards the run's by its prior, which adds degrees of freedom: s̃² = (d₀s₀² + ds²)/(d₀ + d).
    """
    centre = hodges_lehmann(values)
    count = len(values)
    if count < 2:
        return Estimate(centre, None, None)
    own, freedom = statistics.variance(values), float(count - 1)
    if prior is not None:
        total = prior.freedom + freedom
        own = (prior.freedom * prior.variance + freedom * own) / total
        freedom = total
    loss = HODGES_LEHMANN if count > 2 else 1.0
    reach = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(loss * own / count)
    return Estimate(centre, centre - reach, centre + reach)


# What makes a take, or the takes of a case together, worth a second look.
UNDER_FLOOR = 0.9  # of the floor: the ceilings behind it were measured on the same noisy machine
WIDEST_SPREAD = 0.5  # quartiles of the passes' medians, over their median
WIDEST_INTERVAL = 1.3  # high end over low end of a speedup
FEWEST_ROUNDS = 5  # over all passes
DISAGREE = 1.5  # between the engine's time and that of the paired slices
IDLEST = 0.5  # CPU seconds per second of a call on the CPU


def quiet(takes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the takes that count: those of a quiet machine where they are two and half of all."""
    calm = [take for take in takes if not take["contended"]]
    return calm if len(calm) >= max(2, len(takes) / 2) else list(takes)


def suspicions(
    takes: Sequence[Mapping[str, Any]], speedup: Estimate | None, floor_s: float | None
) -> list[str]:
    """Say in plain words what is doubtful about the times of a case."""
    found = []
    medians = [take["median_s"] for take in takes]
    median = statistics.median(medians)
    if floor_s and median < UNDER_FLOOR * floor_s:
        found.append(f"faster than the floor: {median / floor_s:.2f} of the least time possible")
    low, high = np.quantile(medians, [0.25, 0.75])
    if len(medians) > 2 and (high - low) / median > WIDEST_SPREAD:
        found.append(
            f"its passes differ: quartiles {(high - low) / median:.0%} of the median apart"
        )
    if speedup is not None and speedup.low is not None and speedup.high is not None:
        width = math.exp(speedup.high - speedup.low)
        if width > WIDEST_INTERVAL:
            found.append(f"its speedup is uncertain: high end {width:.2f} times the low end")
    rounds = sum(take["rounds"] for take in takes)
    if rounds < FEWEST_ROUNDS:
        found.append(f"few rounds: {rounds} over all passes")
    apart = [
        math.log(take["median_s"] / take["paired_s"]) for take in takes if take.get("paired_s")
    ]
    if apart and abs(statistics.median(apart)) > math.log(DISAGREE):
        factor = math.exp(statistics.median(apart))
        found.append(f"two ways of timing disagree: rounds take {factor:.2f} times paired slices")
    busy = [take["busy"] for take in takes if take.get("busy") is not None]
    if busy and statistics.median(busy) < IDLEST:
        share = statistics.median(busy)
        found.append(f"idle while timed: {share:.0%} of the time on a processor; does it sleep?")
    return found


def summarise(
    outcome: Mapping[str, Any], takes: Sequence[Mapping[str, Any]], prior: Prior | None
) -> dict[str, Any]:
    """Return a case's columns from its examination and its takes.

    Args:
        outcome: The columns as examined.
        takes: One a pass, at least one.
        prior: What the cases of the run have in common.
    """
    used = quiet(takes)
    median = statistics.median(take["median_s"] for take in used)
    logs = [take["log_speedup"] for take in used if take["log_speedup"] is not None]
    speedup = estimate(logs, prior) if logs else None
    columns = dict(outcome)
    columns["passes"] = len(used)
    columns["contended_passes"] = sum(take["contended"] for take in used)
    for name, value in zip(("", "_low", "_high"), speedup or (0.0, None, None), strict=True):
        columns[f"speedup{name}"] = None if value is None else math.exp(value)
    floor_s = outcome.get("floor_s")
    columns["efficiency"] = floor_s / median if floor_s else None
    for name in ("device_hot_s", "device_cold_s", "launch_gap_s"):
        known = [take[name] for take in used if take.get(name) is not None]
        columns[name] = statistics.median(known) if known else None
    # In the process that had not compiled, captured or loaded anything for another case before.
    first = [take["first_call_s"] for take in used if take.get("first_call_s") is not None]
    columns["first_call_s"] = max(first, default=None)
    columns["suspicions"] = [*outcome["suspicions"], *suspicions(used, speedup, floor_s)]
    return columns
