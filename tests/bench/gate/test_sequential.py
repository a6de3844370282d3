"""The gate's decisions, held against simulated machines whose truth is known."""

import math
from collections.abc import Iterable
from itertools import product

import numpy as np
import pytest
from scipy import stats

from bench.gate.config import Thresholds
from bench.gate.sequential import (
    BETA,
    IMPROVEMENT,
    INCONCLUSIVE,
    LOOKS,
    MIN_SCREENING,
    MIN_TO_FAIL,
    NO_REGRESSION,
    REGRESSION,
    SCREENING,
    CaseState,
    SequentialTest,
    explain_timeout,
)
from bench.stats.estimators import lower_bound, p_value, share_bound, upper_bound

CASES = [f"case{number}" for number in range(10)]


def decided(
    truth: dict[str, float], sd: float, random: np.random.Generator, heavy: bool = False
) -> SequentialTest:
    """Take one suite through its blocks on a machine with this much noise."""
    test = SequentialTest(dict.fromkeys(CASES, Thresholds()))
    while wanted := test.open_cases():
        noise = random.standard_t(3, len(wanted)) if heavy else random.normal(size=len(wanted))
        values = {
            n: math.log(truth.get(n, 1.0)) + sd * e for n, e in zip(wanted, noise, strict=True)
        }
        test.add(values)
    return test


@pytest.mark.parametrize("count", [1, 4, 6, 9, 14])
def test_the_chance_is_wilcoxons(count: int) -> None:
    random = np.random.default_rng(count)
    for _ in range(20):
        values = list(random.normal(0.02, 0.02, count))
        exact = stats.wilcoxon(np.array(values) - 0.01, alternative="greater", method="exact")
        assert p_value(values, 0.01) == pytest.approx(float(exact.pvalue))


@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.01])
def test_a_bound_is_where_the_test_turns(alpha: float) -> None:
    random = np.random.default_rng(5)
    for count in (6, 8, 13):
        values = list(random.normal(0.0, 0.02, count))
        low = lower_bound(values, alpha)
        if math.isfinite(low):
            assert p_value(values, low - 1e-9) <= alpha < p_value(values, low + 1e-9)
        assert upper_bound([-v for v in values], alpha) == -low


def test_too_few_values_have_no_bound() -> None:
    assert lower_bound([0.1] * 4, 0.05) == -math.inf
    assert upper_bound([], 0.05) == math.inf
    assert p_value([], 0.0) == 1.0


@pytest.mark.parametrize(
    ("ratio", "sd", "heavy"),
    [*product([1.0], [0.01, 0.03], [False, True]), (1.02, 0.02, False)],
)
def test_code_that_is_no_slower_than_the_threshold_does_not_fail(
    ratio: float, sd: float, heavy: bool
) -> None:
    """At most one suite in a hundred, with room for chance; also with wild processes."""
    random = np.random.default_rng(3)
    suites = [decided(dict.fromkeys(CASES, ratio), sd, random, heavy) for _ in range(200)]
    failed = sum(any(c.decision == REGRESSION for c in suite.cases.values()) for suite in suites)
    assert failed <= 5


@pytest.mark.parametrize(("ratio", "power"), [(1.05, 0.80), (1.10, 0.95), (1.20, 0.98)])
def test_a_slow_down_is_found(ratio: float, power: float) -> None:
    random = np.random.default_rng(6)
    found = passed = 0
    for _ in range(150):
        verdict = decided({"case3": ratio}, 0.015, random).cases["case3"].decision
        found += verdict == REGRESSION
        passed += verdict == NO_REGRESSION
    assert found / 150 >= power - 0.03
    if ratio >= 1.10:
        assert passed == 0


def test_all_cases_slowed_are_all_found() -> None:
    random = np.random.default_rng(7)
    suite = decided(dict.fromkeys(CASES, 1.2), 0.02, random)
    assert {case.decision for case in suite.cases.values()} == {REGRESSION}


def test_a_faster_case_is_said_to_be() -> None:
    suite = decided({"case1": 0.8}, 0.01, np.random.default_rng(8))
    assert suite.cases["case1"].decision == IMPROVEMENT


def test_what_is_too_noisy_to_see_is_no_pass() -> None:
    """The error that a test which finds nothing calls a pass."""
    suite = decided({}, 0.5, np.random.default_rng(9))
    verdicts = [case.decision for case in suite.cases.values()]
    assert verdicts.count(INCONCLUSIVE) >= 8


def test_when_time_is_up_the_rest_is_undecided() -> None:
    test = SequentialTest({"a": Thresholds(), "b": Thresholds()})
    for _ in range(MIN_SCREENING - 1):
        test.add({"a": 0.0, "b": 0.0})
    assert list(test.open_cases()) == ["a", "b"]
    test.leave_open(test.open_cases())
    case = test.cases["a"]
    assert case.decision == INCONCLUSIVE
    assert case.estimate().blocks == MIN_SCREENING - 1


def blocks_of(values: Iterable[float]) -> tuple[str | None, int]:
    """Return the verdict on a case with these values, and after how many of them it is reached."""
    test, left = SequentialTest({"a": Thresholds()}), iter(values)
    while test.open_cases():
        test.add({"a": next(left)})
    case = test.cases["a"]
    return case.decision, len(case.screened) + len(case.confirmed)


def test_no_verdict_rests_on_fewer_blocks_nor_on_more() -> None:
    for centre, verdict, blocks in (
        (0, NO_REGRESSION, MIN_SCREENING),
        (0.2, REGRESSION, MIN_TO_FAIL),
    ):
        quiet = (centre + step / 1e6 for step in range(100))
        assert blocks_of(quiet) == (verdict, blocks)
    wild = ((step - 200) * (-1) ** step for step in range(100))
    assert blocks_of(wild) == (INCONCLUSIVE, 60 + 12)


@pytest.mark.parametrize(
    ("reached_s", "ended", "budget"),
    [
        ([9.0], "after 0 blocks of about 9.00 s", "4m"),  # 9 + 20 · 9
        ([6.0, 10.0, 14.0], "after 2 blocks of about 4.00 s", "2m"),  # 6 + 20 · 4
        ([6.0, 10.0], "after 1 block of about 4.00 s", "2m"),
        ([5.0, *range(7, 47, 2)], "after 20 blocks of about 2.00 s", "3m"),  # 5 + 72 · 2
    ],
)
def test_a_budget_that_is_too_small_names_one_that_suffices(
    reached_s: list[float], ended: str, budget: str
) -> None:
    said = explain_timeout(3.0, reached_s)
    assert said.startswith(f"The time limit of 3 s ended {ended}. A case takes at least 6 blocks ")
    assert "14 to be found a regression, and at most 72: " in said
    assert said.endswith(f"try --max-time {budget}.")


def test_a_case_that_cannot_be_measured_holds_nothing_up() -> None:
    """Its process dies each time: the others are screened and confirmed without it."""
    test = SequentialTest({"a": Thresholds(), "b": Thresholds()})
    for number in range(8 + MIN_SCREENING + 1):
        test.add({"a": 0.2 + number / 1_000})
        if number == 1:
            test.leave_open(["b"])
    assert test.cases["a"].decision == REGRESSION
    assert test.cases["b"].decision == INCONCLUSIVE
    assert not test.open_cases()


@pytest.mark.parametrize("crashes", [1, 2])
def test_a_crash_does_not_let_a_look_spend_its_share_of_the_error_again(crashes: int) -> None:
    """Of two suspects none can fail on 8 blocks; on 9, one could if its look were had again."""
    test = SequentialTest({"a": Thresholds(), "b": Thresholds()})
    values = iter(0.2 + number / 1_000 for number in range(100))
    for _ in range(MIN_SCREENING + LOOKS[0][0]):
        test.add(dict.fromkeys("ab", next(values)))
    assert list(test.open_cases()) == ["a", "b"]
    for _ in range(crashes):
        test.add({"a": next(values)})  # the process ended at b
    assert len(test.cases["a"].confirmed) == LOOKS[0][0] + crashes
    assert list(test.open_cases()) == ["a", "b"]
    while test.open_cases():
        test.add({name: next(values) for name in test.open_cases()})
    assert {len(case.confirmed) for case in test.cases.values()} <= {12, 12 + crashes}
    assert {case.decision for case in test.cases.values()} == {REGRESSION}


def test_an_estimate_has_an_interval() -> None:
    values = [0.001, -0.002, 0.0, 0.003, -0.001, 0.002, 0.0, 0.001]
    found = CaseState(Thresholds(), values).estimate()
    assert found.ratio == pytest.approx(1.0005, abs=1e-3)
    assert found.low is not None


def one_case(
    random: np.random.Generator,
    thresholds: Thresholds,
    ratio: float = 1.0,
    slow_share: float = 0.0,
    slow_ratio: float = 1.15,
) -> CaseState:
    """Take one case, of which some processes are slower, through its blocks."""
    test = SequentialTest({"a": thresholds})
    while test.open_cases():
        slow = math.log(slow_ratio) * (random.random() < slow_share)
        test.add({"a": math.log(ratio) + slow + random.normal(0.0, 0.02)})
    return test.cases["a"]


def passes(count: int, seed: int, thresholds: Thresholds, **truth: float) -> int:
    """Count the passes of so many cases."""
    random = np.random.default_rng(seed)
    cases = [one_case(random, thresholds, **truth) for _ in range(count)]
    return sum(case.decision in (NO_REGRESSION, IMPROVEMENT) for case in cases)


def test_all_looks_together_spend_what_is_stated_and_no_more() -> None:
    assert sum(of_alpha for _, of_alpha, _ in LOOKS) == 100
    assert sum(SCREENING.values()) + sum(of_beta for *_, of_beta in LOOKS) == 100
    for count, share in (*SCREENING.items(), *((count, share) for count, _, share in LOOKS)):
        assert math.isfinite(upper_bound([0.0] * count, share / 100 * BETA)), (
            count
        )  # it can pass there


def test_a_case_slower_by_the_margin_passes_as_rarely_as_is_stated() -> None:
    """Of 200 at most 5 % on average, over all looks; more than 19 has a chance of 0.2 %."""
    assert passes(200, 11, Thresholds(), ratio=1.05) <= 19


@pytest.mark.parametrize(("slow_ratio", "seed"), [(1.15, 21), (1.5, 22)])
def test_a_slow_mode_that_must_be_found_is_no_pass(slow_ratio: float, seed: int) -> None:
    """It does not move the centre: the typical process of most such cases is not slower."""
    third = {"slow_share": 0.36, "slow_ratio": slow_ratio}
    assert passes(60, seed, Thresholds(), **third) <= 12  # of 6 expected
    fifth = third | {"slow_share": 0.22}
    assert passes(60, seed, Thresholds(slow_share=0.2), **fifth) <= 12


def test_a_slow_mode_fails_only_by_the_evidence_that_any_slow_down_needs() -> None:
    random = np.random.default_rng(23)
    cases = [one_case(random, Thresholds(), slow_share=0.3) for _ in range(60)]
    assert sum(case.decision == REGRESSION for case in cases) <= 2
    assert sum(case.decision == INCONCLUSIVE for case in cases) >= 40


def test_unchanged_code_passes_whose_processes_are_slow_by_chance() -> None:
    """One process in twenty, a few of a hundred cases in each suite; and under load."""
    chance = {"slow_share": 0.05, "slow_ratio": 1.08}
    assert passes(100, 24, Thresholds(), **chance) >= 98
    assert passes(60, 25, Thresholds(slow_share=0.2), **chance) >= 57


def test_the_bound_of_a_share_is_the_exact_one() -> None:
    for count, of in ((0, 6), (1, 12), (5, 40)):
        bound = share_bound(count, of, 0.1)
        assert stats.binom.cdf(count, of, bound) == pytest.approx(0.1)
    assert share_bound(3, 3, 0.1) == share_bound(0, 0, 0.1) == 1.0


def test_slow_processes_of_screening_and_of_confirmation_count_together() -> None:
    case = CaseState(Thresholds(), [0.0] * 5 + [0.3], [0.0] * 6 + [0.3, 0.0489])
    found = case.estimate()
    assert found is not None
    assert (found.blocks, found.slow, found.fast, found.processes) == (8, 3, 0, 14)
    assert found.excess_bound == pytest.approx(0.417, abs=1e-3)


def test_as_many_fast_processes_explain_slow_ones() -> None:
    """A noisy case, as a whole training is, passes as it would by its centre alone."""
    symmetric = CaseState(Thresholds(), [0.1, -0.1] * 6 + [0.0] * 12)
    one_sided = CaseState(Thresholds(), [0.1] * 6 + [0.0] * 18)
    bounds = [case.slow_processes()[-1] for case in (symmetric, one_sided)]
    assert bounds[0] < 0.33 < bounds[1]
    random, noisy = np.random.default_rng(26), []
    for _ in range(30):
        test = SequentialTest({"a": Thresholds()})
        while test.open_cases():
            test.add({"a": random.normal(0.0, 0.08)})
        noisy.append(test.cases["a"].decision)
    assert noisy.count(REGRESSION) == 0
    assert noisy.count(INCONCLUSIVE) <= 6
