"""What fails a case beside its times, and what is noted."""

import pytest

from bench.gate.verdict import Difference, Verified, compare_exactly
from mlr import Case

CASE = Case("gradient", "cpu", "float64", 40, 5, 4)
FINE = Verified(None, {"peak_bytes": 1, "leak_bytes": 0, "flops": 1})
WRONG = Verified("wrong: error 3 times the tolerance")


def test_what_is_exact_fails_by_more_than_its_slack() -> None:
    more = FINE._replace(metrics=FINE.metrics | {"peak_bytes": 2, "flops": 0})
    failures, changes = compare_exactly(CASE, FINE, more, {})
    assert failures == [Difference("peak_bytes", 1, 2, "bytes at peak: 2 instead of 1")]
    words = "operations of a call in torch's matrix products: 0 instead of 1"
    assert changes == [Difference("flops", 1, 0, words)]
    uncounted = FINE._replace(metrics=FINE.metrics | {"peak_bytes": None})
    failures, (change,) = compare_exactly(CASE, FINE, uncounted, {})
    assert (failures, change.text) == ([], "bytes at peak: not counted instead of 1")
    assert compare_exactly(CASE, uncounted, FINE, {}) == ([], [])
    on_cuda = Case("gradient", "cuda", "float64", 40, 5, 4)
    assert compare_exactly(on_cuda, FINE, more, {}) == compare_exactly(CASE, FINE, more, {})


@pytest.mark.parametrize(
    ("base", "head", "failures", "changes"),
    [
        (FINE, WRONG, ["wrong: error 3 times the tolerance"], []),
        (WRONG, FINE, [], ["was wrong: error 3 times the tolerance"]),
        (WRONG, Verified("oom: too large"), [], ["oom: too large"]),
        (WRONG, WRONG, [], ["wrong: error 3 times the tolerance"]),
        (FINE, FINE, [], []),
    ],
)
def test_what_only_the_base_could_do_is_a_failure(
    base: Verified, head: Verified, failures: list[str], changes: list[str]
) -> None:
    found = compare_exactly(CASE, base, head, {})
    assert [[one.text for one in some] for some in found] == [failures, changes]
