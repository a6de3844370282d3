"""What other tools' rules say of two runs, each by the tool's own code where it can be had.

They see what they always see: one process a version, its rounds taken for independent samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import parse_compare_fail
from scipy import stats

Rounds = Sequence[float]
Fails = Callable[[Rounds, Rounds], bool]


def _plugin(rule: str) -> Fails:
    """Return pytest-benchmark's own check, as of `--benchmark-compare-fail=RULE`."""
    check = parse_compare_fail(rule)

    def statistics(rounds: Rounds) -> dict[str, float]:
        found = Stats()
        for value in rounds:
            found.update(value)
        return {name: getattr(found, name) for name in ("min", "max", "mean", "median")}

    return lambda base, head: bool(check.fails(statistics(head), statistics(base)))


def _mann_whitney(base: Rounds, head: Rounds) -> bool:
    """Apply asv's rule: p under 0.002 by the Mann-Whitney test, and 10 % slower in the median."""
    slower = float(np.median(head)) > 1.1 * float(np.median(base))
    return slower and float(stats.mannwhitneyu(base, head).pvalue) < 0.002


def _t_test(base: Rounds, head: Rounds) -> bool:
    """Apply pyperf's rule: a two-sample t-test at 95 %, and slower in the mean."""
    try:
        from pyperf._utils import is_significant

        significant = bool(is_significant(base, head)[0])
    except ImportError:  # SciPy has the same test
        significant = float(stats.ttest_ind(base, head).pvalue) < 0.05
    return significant and float(np.mean(head)) > float(np.mean(base))


BASELINE_DETECTORS: dict[str, Fails] = {
    **{rule: _plugin(rule) for rule in ("min:5%", "mean:5%", "median:10%")},
    "Mann-Whitney (asv)": _mann_whitney,
    "t-test (pyperf)": _t_test,
}


def judge(base: Mapping[str, Rounds], head: Mapping[str, Rounds]) -> dict[str, list[str]]:
    """Return for each rule the cases that it fails."""
    return {
        rule: [name for name in base if fails(base[name], head[name])]
        for rule, fails in BASELINE_DETECTORS.items()
    }
