"""A run replayed from its journal: what is left, how long it takes, and what is made of it."""

from pathlib import Path
from typing import Any

import pytest
from run_builder import build_run, save

from bench.common.errors import UserError
from bench.run import runner
from bench.run.journal import (
    JOURNAL_LOST,
    LONG_CALL_S,
    LONG_PROCESSES,
    Choice,
    Done,
    Plan,
    RunState,
    Session,
    Start,
    progress,
    seconds_per_sample,
)
from bench.run.process import Exit

QUICK, LONG = "quick", "long"
CASE = {"device": "cpu", "dtype": "float64", "batch": 33, "in_features": 6, "out_features": 3}


def verified(path: Path, processes: int = 5) -> RunState:
    """Return a run whose two benchmarks were verified."""
    state = RunState(path)
    state.note(Plan(wanted={QUICK: 1, LONG: 1}, arguments=[], processes=processes))
    for name, roofline_s in ((QUICK, 0.9 * LONG_CALL_S), (LONG, LONG_CALL_S)):
        assert state.processes_of(name) == (processes, processes)
        done(state, 0, name, roofline_s)
    return state


def done(state: RunState, process: int, name: str, roofline_s: float, **sample: Any) -> None:
    outcome = {"kernel": name, "status": "ok", "roofline_s": roofline_s, **CASE}
    kept = {"contended": False} | sample if process else {}
    state.note(Start(process=process, fullname=name, outcome=outcome))
    assert state.current is not None
    state.note(
        Done(process=process, fullname=name, outcome=outcome, sample=kept,
             spent={"timing_s": float(process)})
    )  # fmt: skip


def runner_of(state: RunState) -> runner.Runner:
    return runner.Runner(state, lambda progress: None)


def test_what_takes_long_is_timed_in_few_processes(tmp_path: Path) -> None:
    for processes in (1, 2, 5):
        state = verified(tmp_path / f"{processes}.jsonl", processes)
        few = min(processes, LONG_PROCESSES)
        assert state.processes_of(QUICK) == (processes, processes)
        assert state.processes_of(LONG) == (few, few)


def test_every_process_takes_what_it_should_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, taken = verified(tmp_path / "a.jsonl"), []

    def take(of: runner.Runner, number: int, threads: int) -> None:
        taken.append((number, state.left(number)))
        for name in state.left(number):
            done(state, number, name, 1.0)

    monkeypatch.setattr(runner.Runner, "run_process", take)
    runner_of(state).run()
    both = [QUICK, LONG]
    alone = [(number, [QUICK]) for number in (3, 4, 5)]
    assert taken == [(0, []), (1, both), (2, both), *alone]
    found = progress(state)
    assert found.done == found.total == 2 + 5 + 2
    assert found.process == 5  # between two benchmarks too


def test_a_process_takes_what_has_its_number_of_threads(tmp_path: Path) -> None:
    state, taken = RunState(tmp_path / "a.jsonl"), []
    state.note(Plan(wanted={QUICK: 1, LONG: 2, "quick-2": 2}, arguments=[], processes=1))

    class Recording(runner.Runner):
        def run_process(self, number: int, threads: int) -> None:
            taken.append((number, threads, state.left(number, threads)))
            for name in state.left(number, threads):
                done(state, number, name, 0.1)

    Recording(state, lambda progress: None).run()
    of_two = [LONG, "quick-2"]
    assert taken[:4] == [(0, 1, [QUICK]), (0, 2, of_two), (1, 1, [QUICK]), (1, 2, of_two)]
    assert not any(names for *_, names in taken[4:])
    assert state.left(0) == state.left(1) == []


def test_nothing_beyond_the_least_is_taken_before_it_is_chosen(tmp_path: Path) -> None:
    """What is not known counts neither as work nor as time."""
    state = RunState(tmp_path / "a.jsonl")
    state.note(Plan(wanted={QUICK: 1, LONG: 1}, arguments=[], processes=5, least=2))
    for process in range(3):
        for name in (QUICK, LONG):
            done(state, process, name, LONG_CALL_S if name == LONG else 0.1)
    assert state.processes_of(QUICK) == (2, 5)
    assert state.processes_of(LONG) == (2, 2)
    assert [state.left(process) for process in range(6)] == [[]] * 6
    assert (progress(state).done, progress(state).total) == (6, 6)
    assert progress(state).is_open
    state.note(Choice(process=3, names=[QUICK]))
    again = RunState(state.path)
    again.read()
    assert again.left(3) == state.left(3) == [QUICK]
    assert again.left(3, threads=2) == []
    assert (progress(again).done, progress(again).total) == (6, 7)
    for process in (4, 5):
        again.note(Choice(process=process, names=[]))
    assert not progress(again).is_open


@pytest.mark.parametrize(
    ("processes", "probing"), [(1, [0, 1]), (2, [0, 1, 2]), (5, [0, 3, 5]), (7, [0, 4, 7])]
)
def test_ceilings_are_measured_at_the_beginning_in_the_middle_and_at_the_end(
    processes: int, probing: list[int], tmp_path: Path
) -> None:
    state, probed = verified(tmp_path / "a.jsonl", processes), []
    for number in range(processes + 3):
        for _ in range(2):  # the second is there because the first has crashed
            known = {}
            if state.is_to_probe("cpu, 1 thread", number):
                known = {"cpu, 1 thread": {"dispatch_s": 1e-7}}
                probed.append(number)
            state.note(Session(head={"machine": {"ceilings": known}}))
    assert probed[: len(probing)] == probing
    assert len(state.ceilings("cpu, 1 thread")) == len(probed) <= 3
    assert state.is_to_probe("cpu, 2 threads", 0)


@pytest.mark.parametrize(("worked_s", "again"), [(0.0, []), (100.0, [[QUICK], [QUICK]])])
def test_what_was_contended_is_taken_again_where_that_takes_little(
    worked_s: float, again: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second of a run of milliseconds is too much."""
    state, taken = verified(tmp_path / "a.jsonl", 1), []
    for name in (QUICK, LONG):
        done(state, 1, name, 1.0, contended=name == QUICK)
    state.wall_s += worked_s
    monkeypatch.setattr(
        runner.Runner, "run_process", lambda of, number, _: taken.append(state.left(number))
    )
    runner_of(state).run()
    assert taken == [[], [], *again]


def test_the_time_left_is_that_of_what_is_left(tmp_path: Path) -> None:
    """As long again as what each benchmark took, and the rest of the processes at that."""
    state = verified(tmp_path / "a.jsonl")
    assert progress(state).left_s is None  # its verification took no time: nothing is known
    done(state, 1, QUICK, 0.1)
    done(state, 1, LONG, 1.0)
    factor = state.wall_s / 2  # two seconds were spent in benchmarks
    # Four more processes of one second each of the one, and one of the other.
    assert progress(state).left_s == pytest.approx(5 * factor)
    for number in range(2, 6):
        done(state, number, QUICK, 0.1)
    done(state, 2, LONG, 1.0)
    assert progress(state).left_s == 0


def test_a_benchmark_is_none_the_worse_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that cannot write down how one ended leaves, and it begins anew later."""
    state = verified(tmp_path / "a.jsonl")
    state.note(Start(process=1, fullname=QUICK, outcome={"status": "ok"}))
    monkeypatch.setattr(runner.Runner, "_run_child", lambda *_: Exit(JOURNAL_LOST, False, ""))
    with pytest.raises(UserError, match="cannot be written"):
        runner_of(state).run_process(1, 1)
    assert state.current is not None
    assert QUICK in state.left(1)
    state.note(state.plan)
    assert state.current is None


def test_a_benchmark_counts_once_though_its_process_outlived_its_runner(tmp_path: Path) -> None:
    state = verified(tmp_path / "a.jsonl")
    done(state, 1, QUICK, 0.1, median_s=1.0)
    outcome = {"kernel": QUICK, "status": "crashed"}
    state.note(Done(process=1, fullname=QUICK, outcome=outcome, sample={"median_s": 2.0}))
    (timing,) = state.timings(QUICK)
    assert timing.sample == {"contended": False, "median_s": 1.0}
    assert not state.failures


@pytest.mark.parametrize(
    "line", ['{"event": "lost"}', '{"event": "done", "process": 1}', "[]", "{"]
)
def test_a_journal_of_other_code_is_one_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(UserError, match=r"a\.jsonl holds others; remove it") as caught:
        RunState(path).read()
    assert "\n" not in str(caught.value)


def test_the_pace_is_that_of_the_newest_run_of_a_machine_and_a_grid(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for number, wall_s in enumerate((100.0, 400.0)):
        run = build_run(
            ("step",), ((33, 6, 3),), processes=4, datetime=f"2026-11-2{number}T00:00:00Z"
        )
        run["cost"]["wall_s"] = wall_s
        save(run, folder / "here" / f"{number}.json")
    samples = len(run["benchmarks"]) * 5
    run["cost"]["wall_s"] = 700.0
    tall = save(run, folder / "here" / "0-tall.json")
    other = save(run, folder / "there" / "9-smoke.json")
    newest = folder / "here" / "1.json"
    found = seconds_per_sample(folder, "here", "smoke")
    assert found == (pytest.approx(400 / samples), newest)
    assert seconds_per_sample(folder, "here", "tall") == (pytest.approx(700 / samples), tall)
    assert seconds_per_sample(folder, "another", "smoke") == (pytest.approx(700 / samples), other)
    assert seconds_per_sample(tmp_path / "nothing", "here", "smoke") is None
