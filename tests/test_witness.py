"""What is told of a call that works on: from what its process takes while nothing is called."""

import pytest

from bench import witness


@pytest.mark.parametrize(
    ("cores", "said", "calls"),
    [
        ([0.0], False, 1),
        ([1.0, 1.0], True, 1),
        ([1.0, 0.0, 0.0], False, 2),  # waits awake for a little while, then sleeps
        ([0.1, 0.4, 0.18, 0.3, 0.25], True, 3),  # wants a core, and seldom gets one
        ([0.1] * witness.MOST_CALLS, False, witness.MOST_CALLS),
    ],
)
def test_what_works_on_is_told_from_what_waits(
    monkeypatch: pytest.MonkeyPatch, cores: list[float], said: bool, calls: int
) -> None:
    left, called = iter(cores), []
    monkeypatch.setattr(witness, "busy_while_idle", lambda: next(left))
    assert bool(witness.works_on(lambda: called.append(1))) == said
    assert len(called) == calls
    assert next(left, None) is None
