"""Samples taken while the machine was slower than usual, told by the baseline's own time.

A virtual machine shares its cores with others, and no counter says when: for some seconds all takes
up to twice as long, and not every kernel alike, so that speedups move too. Every sample has the
baseline's time beside the kernel's; one in which that is far above the baseline's usual time in the
run is disturbed, whatever the kernel.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from ..stats.estimators import quartiles

# Of the baseline in a sample over its usual time. On three runs of a restless machine, 15 to 37 %
# of samples were above; without them samples of a case varied half as much. On a quiet one, none.
MAX_SLOWDOWN = 1.3
PAIRS = (("paired_s", "log_speedup"), ("cold_s", "log_speedup_cold"))

Samples = Sequence[Mapping[str, Any]]


def with_slowdowns(
    samples: Mapping[str, Samples], cases: Mapping[str, Hashable]
) -> dict[str, list[dict[str, Any]]]:
    """Return the samples of benchmarks with their `slowdown`, and `contended` where that is large.

    The usual time is the lower quartile over all samples of a case, of every kernel: a kernel that
    leaves the baseline slower behind it moves that little.
    """
    told = {name: [dict(baseline_times(one)) for one in some] for name, some in samples.items()}
    every = defaultdict[tuple[Hashable, str], list[float]](list)
    for name, some in told.items():
        for times in some:
            for pair, seconds in times.items():
                every[cases[name], pair].append(seconds)
    usual = {key: quartiles(seconds)[0] for key, seconds in every.items()}
    return {
        name: [
            _marked(sample, [s / usual[cases[name], pair] for pair, s in times.items()])
            for sample, times in zip(samples[name], some, strict=True)
        ]
        for name, some in told.items()
    }


def baseline_times(sample: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the seconds of the baseline beside a kernel, by the column of the kernel's own."""
    for name, log in PAIRS:
        if sample.get(name) is not None:  # the baseline itself has no speedup
            yield name, sample[name] * math.exp(sample.get(log) or 0.0)


def _marked(sample: Mapping[str, Any], ratios: Sequence[float]) -> dict[str, Any]:
    slowdown = max(ratios, default=None)
    slow = slowdown is not None and slowdown > MAX_SLOWDOWN
    return {**sample, "slowdown": slowdown, "contended": sample["contended"] or slow}
