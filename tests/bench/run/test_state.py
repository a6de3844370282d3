"""The journal of a run as read so far: in how many passes a case is timed."""

import math
from pathlib import Path
from typing import Any

import pytest

from bench.common.errors import UserError
from bench.run import runner
from bench.run.journal import JOURNAL_LOST, Journal
from bench.run.process import Exit
from bench.run.state import LONG_FLOOR_S, LONG_PASSES, Followed, Plan

QUICK, LONG = "quick", "long"


def examined(path: Path, passes: int = 5) -> Followed:
    """Return a run whose two cases were examined."""
    followed = Followed(Journal(path))
    followed.note("plan", **Plan([QUICK, LONG], [], passes)._asdict())
    for name, floor_s in ((QUICK, 0.9 * LONG_FLOOR_S), (LONG, LONG_FLOOR_S)):
        assert followed.passes_of(name) == passes
        done(followed, 0, name, floor_s)
    return followed


def done(followed: Followed, number: int, name: str, floor_s: float, **take: Any) -> None:
    outcome = {"status": "ok", "floor_s": floor_s}
    kept = {"pass": number, "contended": False} | take if number else None
    followed.note("start", **{"pass": number}, fullname=name, outcome=outcome)
    followed.note("done", **{"pass": number}, fullname=name, outcome=outcome, take=kept,
                  benchmark=None, spent={"timing_s": float(number)})  # fmt: skip


@pytest.mark.parametrize("passes", [1, 2, 5])
def test_what_takes_long_is_timed_in_few_passes(tmp_path: Path, passes: int) -> None:
    followed = examined(tmp_path / "a.jsonl", passes)
    assert followed.passes_of(QUICK) == passes
    assert followed.passes_of(LONG) == min(passes, LONG_PASSES)


def test_every_pass_takes_what_it_should_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed, taken = examined(tmp_path / "a.jsonl"), []

    def take(child: Any, of: Followed, show: Any, number: int, wanted: list[str]) -> None:
        taken.append((number, wanted))
        for name in wanted:
            if not of.has(number, name):
                done(of, number, name, 1.0)

    monkeypatch.setattr(runner, "_run_pass", take)
    runner._run_passes(runner.Child(None, tmp_path, {}), followed, lambda progress: None)  # type: ignore[arg-type]
    both = [QUICK, LONG]
    assert taken == [(0, both), (1, both), (2, both), (3, [QUICK]), (4, [QUICK]), (5, [QUICK])]
    assert followed.contended() == []
    assert followed.progress.done == followed.progress.total == 2 + 5 + 2
    assert followed.seconds_of(both) == 5.0 + 2.0


def test_the_time_left_is_that_of_what_is_left(tmp_path: Path) -> None:
    """As long again as what each case took, and the rest of the passes at that."""
    followed = examined(tmp_path / "a.jsonl")
    assert followed.progress.left_s is None  # its examination took no time: nothing is known
    done(followed, 1, QUICK, 0.1)
    done(followed, 1, LONG, 1.0)
    factor = followed.wall_s / 2  # two seconds were spent in cases
    # Four more passes of one second each of the one, and one of the other.
    assert followed.progress.left_s == pytest.approx(5 * factor)
    for number in range(2, 6):
        done(followed, number, QUICK, 0.1)
    done(followed, 2, LONG, 1.0)
    assert followed.progress.left_s == 0


def test_the_latest_case_is_told_with_its_speedup(tmp_path: Path) -> None:
    followed = examined(tmp_path / "a.jsonl")
    assert followed.progress.latest == ""
    name = "bench/bench_step.py::bench_step[fused-cpu-float64-33x6x3]"
    done(followed, 1, name, 0.1, log_speedup=math.log(2.5))
    assert followed.progress.latest == "fused-cpu-float64-33x6x3 2.50×"
    done(followed, 2, name, 0.1)
    assert followed.progress.latest == "fused-cpu-float64-33x6x3"


def test_a_case_is_none_the_worse_for_a_full_disk(tmp_path: Path) -> None:
    """A child that cannot write down how a case ended leaves, and the case begins anew later."""
    followed = examined(tmp_path / "a.jsonl")
    followed.note("start", **{"pass": 1}, fullname=QUICK, outcome={"status": "ok"})
    with pytest.raises(UserError, match="cannot be written"):
        runner._end_current(followed, Exit(JOURNAL_LOST, False, ""), out_of_memory=False)
    assert followed.current == (1, QUICK)
    assert not followed.has(1, QUICK)
