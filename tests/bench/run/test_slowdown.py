"""Samples beside which the baseline was slow do not count, whatever the kernel."""

import math
from typing import Any

import numpy as np
import pytest

from bench.run.aggregate import summarise
from bench.run.slowdown import MAX_SLOWDOWN, with_slowdowns
from bench.run.stopping import uncontended

BASELINE_S, OUTCOME = 1e-4, {"status": "ok", "warnings": []}


def sample(process: int, speedup: float, slower: float = 1.0, **changed: Any) -> dict[str, Any]:
    """A sample of a kernel while the machine takes so many times as long, the kernel a bit less."""
    own_s = BASELINE_S / speedup * slower**0.7
    told = {"process": process, "median_s": own_s, "rounds": 9, "paired_s": own_s}
    log = math.log(BASELINE_S * slower / own_s)
    return told | {"log_speedup": log, "contended": False} | changed


def of_two_kernels(slower: dict[int, float]) -> dict[str, list[dict[str, Any]]]:
    numbers = np.random.default_rng(0).normal(1, 0.01, 10)
    fast = [sample(p, 10 * numbers[p], slower.get(p, 1.0)) for p in range(5)]
    base = [sample(p, numbers[5 + p], log_speedup=None) for p in range(5)]
    return with_slowdowns({"fast": fast, "base": base}, {"fast": 0, "base": 0})


def test_a_spell_neither_moves_a_speedup_nor_widens_its_interval() -> None:
    calm = summarise(OUTCOME, of_two_kernels({})["fast"], None)
    spell = of_two_kernels({1: 1.9, 3: 1.5})["fast"]
    assert [one["contended"] for one in spell] == [False, True, False, True, False]
    assert spell[1]["slowdown"] == pytest.approx(1.9, rel=0.05)
    told = summarise(OUTCOME, spell, None)
    assert (told["processes"], told["contended_processes"]) == (3, 2)
    assert told["speedup"] == pytest.approx(calm["speedup"], rel=0.02)
    unmarked = [one | {"contended": False} for one in spell]
    widths = [np.log(one["speedup_high"] / one["speedup_low"])
              for one in (told, summarise(OUTCOME, unmarked, None))]  # fmt: skip
    assert widths[0] < widths[1]


def test_a_quiet_machine_loses_no_sample() -> None:
    for some in of_two_kernels({}).values():
        assert uncontended(some) == some


def test_noise_below_the_limit_biases_nothing() -> None:
    """A choice by the baseline's time would favour low ones, if it cut into the usual noise."""
    noise = np.random.default_rng(1).normal(0, 0.05, (2_000, 5))
    logs = []
    for row in noise:
        some = [sample(p, 10, log_speedup=math.log(10) + e, paired_s=BASELINE_S / 10)
                for p, e in enumerate(row)]  # fmt: skip
        marked = with_slowdowns({"a": some}, {"a": 0})["a"]
        logs.append(np.mean([one["log_speedup"] for one in uncontended(marked)]))
    assert np.mean(logs) == pytest.approx(math.log(10), abs=0.002)


def test_cases_are_not_compared_and_what_was_disturbed_stays_so() -> None:
    small, large = sample(1, 10), sample(1, 10)
    large = large | {"paired_s": 50 * large["paired_s"], "contended": True}
    found = with_slowdowns({"small": [small], "large": [large]}, {"small": 33, "large": 10_000})
    assert found["small"][0]["slowdown"] == found["large"][0]["slowdown"] == pytest.approx(1)
    assert [found[name][0]["contended"] for name in ("small", "large")] == [False, True]


def test_cold_slices_count_too_and_a_sample_without_times_is_as_it_was() -> None:
    cold = {"cold_s": 2e-5, "log_speedup_cold": math.log(6)}
    slow = cold | {"cold_s": 2e-5 * (MAX_SLOWDOWN + 0.1)}
    some = [sample(p, 10, **(slow if p == 2 else cold)) for p in range(5)]
    marked = with_slowdowns({"a": some}, {"a": 0})["a"]
    assert [one["contended"] for one in marked] == [False, False, True, False, False]
    bare = {"process": 1, "median_s": 1.0, "rounds": 1, "contended": False}
    assert with_slowdowns({"a": [bare]}, {"a": 0})["a"] == [bare | {"slowdown": None}]
