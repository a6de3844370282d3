"""When a benchmark has been timed in enough processes: by the intervals of its speedups.

Two processes say enough of most. More are for what a claim needs: whether one of two kernels is the
faster, where their intervals overlap, or a speedup to within a few per cent. An interval that is
looked at after every process, and kept once it pleases, would err more often than it says. So each
of them is one of `repeated_error`, which hold all together, by whatever rule one stops.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from ..plan.grid import Processes
from ..stats.estimators import Estimate, Prior, common_prior, estimate, repeated_error

Sample = Mapping[str, Any]
SPEEDUPS = {"speedup": "log_speedup", "speedup_cold": "log_speedup_cold"}  # by their columns

# Narrow enough is an interval from the speedup ÷ 1.05 to the speedup × 1.05; half of that where it
# reaches into that of the fastest kernel of its case, or the fastest's into another one; and four
# times where the kernel is at most half as fast as the fastest, or calls another and these
# are timed besides.
HALF_WIDTH = math.log(1.05)
OF_RIVALS = 0.5
OF_OTHERS = 4.0
SLOW = math.log(0.5)


class Timed(NamedTuple):
    """A benchmark that was timed: its samples, and what decides on their number."""

    samples: Sequence[Sample]
    processes: Processes  # that it may have
    threads: int
    case: Hashable  # what it shares with its rivals
    is_rival: bool = True  # not where it is the baseline, or one of the others by another name

    @property
    def error(self) -> float:
        """How often each interval may err that is looked at after a process."""
        return repeated_error(*self.processes)


def is_rival(kernel: str, baseline: str, role: str) -> bool:
    """Say whether a kernel is one of its own: not the baseline, nor one that calls another."""
    return kernel != baseline and role != "auto"


def uncontended(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples that count: the undisturbed ones, where they are two and half of all."""
    calm = [sample for sample in samples if not sample["contended"]]
    return calm if len(calm) >= max(2, len(samples) / 2) else list(samples)


def known(samples: Sequence[Sample], name: str) -> list[float]:
    """Return the values of a column, of the samples that have one."""
    return [value for sample in samples if (value := sample.get(name)) is not None]


def priors_by_threads(
    samples: Mapping[str, Sequence[Sample]],
    threads: Mapping[str, int],
    column: str = "log_speedup",
) -> dict[int, Prior | None]:
    """Return what the variances of benchmarks with as many threads have in common.

    With several threads they are larger: what they have says nothing of those with one.
    """
    logs = {name: known(uncontended(some), column) for name, some in samples.items()}
    return {
        count: common_prior([some for name, some in logs.items() if threads[name] == count])
        for count in {*threads.values()}
    }


def wanting(timed: Mapping[str, Timed]) -> list[str]:
    """Return the benchmarks that need another process.

    Those with fewer undisturbed samples than the least number of processes; and of the others those
    with fewer than the most whose interval, hot or cold, is not narrow enough.
    """
    calm = {
        name: sum(not sample["contended"] for sample in one.samples) for name, one in timed.items()
    }
    wide = {name for column in SPEEDUPS.values() for name in _too_wide(timed, column)}
    return [
        name
        for name, one in timed.items()
        if calm[name] < (one.processes.most if name in wide else one.processes.least)
    ]


def estimates(timed: Mapping[str, Timed], column: str) -> dict[str, Estimate]:
    """Return the logarithms of speedups, from the samples that count, of all that have one."""
    samples = {name: one.samples for name, one in timed.items()}
    priors = priors_by_threads(samples, {n: one.threads for n, one in timed.items()}, column)
    return {
        name: estimate(logs, priors[one.threads], one.error)
        for name, one in timed.items()
        if (logs := known(uncontended(one.samples), column))
    }


def _too_wide(timed: Mapping[str, Timed], column: str) -> set[str]:
    found = estimates(timed, column)
    rivals: dict[Hashable, dict[str, Estimate]] = {}
    for name, one in timed.items():
        of_case = rivals.setdefault(one.case, {"": Estimate(0.0, 0.0, 0.0)})  # the baseline's own
        if name in found and one.is_rival:
            of_case[name] = found[name]
    return {
        name
        for name, one in found.items()
        if one.high is None or one.high - one.centre > _allowed(name, one, rivals[timed[name].case])
    }


def _allowed(name: str, own: Estimate, rivals: Mapping[str, Estimate]) -> float:
    """Return the half-width of a speedup's interval, on the logarithm, that is narrow enough."""
    best = max(rivals, key=lambda rival: rivals[rival].centre)
    others = [rivals[best]] if name != best else [one for n, one in rivals.items() if n != best]
    if name in rivals and any(map(own.overlaps, others)):
        return OF_RIVALS * HALF_WIDTH
    is_other = (name not in rivals and len(rivals) > 1) or (
        own.centre - rivals[best].centre < SLOW and not own.overlaps(rivals[best])
    )
    return (OF_OTHERS if is_other else 1.0) * HALF_WIDTH
