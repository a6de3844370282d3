"""What other tools' rules say of two runs, each with the tool's own code where it can be had.

They see what they always see: one process a side, its rounds taken for independent samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import parse_compare_fail
from scipy import stats

Rounds = Sequence[float]


def _plugin(rule: str) -> Callable[[Rounds, Rounds], bool]:
    """Return pytest-benchmark's own check, as of `--benchmark-compare-fail=RULE`."""
    check = parse_compare_fail(rule)

    return lambda old, new: bool(check.fails(_statistics(new), _statistics(old)))


def _statistics(rounds: Rounds) -> dict[str, float]:
    """Return what the plugin's check reads of a run."""
    found = Stats()
    for value in rounds:
        found.update(value)
    return {name: getattr(found, name) for name in ("min", "max", "mean", "median")}


def _mann_whitney(old: Rounds, new: Rounds) -> bool:
    """Apply asv's rule: p under 0.002 by the Mann-Whitney test, and 10 % slower in the median."""
    slower = float(np.median(new)) > 1.1 * float(np.median(old))
    return slower and float(stats.mannwhitneyu(old, new).pvalue) < 0.002


def _t_test(old: Rounds, new: Rounds) -> bool:
    """Apply pyperf's rule: its own two-sample t-test at 95 %, and slower in the mean."""
    slower = float(np.mean(new)) > float(np.mean(old))
    try:
        from pyperf._utils import is_significant
    except ImportError:  # it is wanted for trials alone; SciPy has the same test
        return slower and float(stats.ttest_ind(old, new).pvalue) < 0.05
    return slower and bool(is_significant(old, new)[0])


RULES: dict[str, Callable[[Rounds, Rounds], bool]] = {
    "min:5%": _plugin("min:5%"),
    "mean:5%": _plugin("mean:5%"),
    "median:10%": _plugin("median:10%"),
    "Mann-Whitney (asv)": _mann_whitney,
    "t-test (pyperf)": _t_test,
}


def judge(old: Mapping[str, Rounds], new: Mapping[str, Rounds]) -> dict[str, list[str]]:
    """Return for each rule the cases that it fails."""
    return {
        rule: [name for name in old if fails(old[name], new[name])] for rule, fails in RULES.items()
    }
