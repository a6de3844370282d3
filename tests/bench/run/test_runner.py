"""Nothing measured is lost: processes and runners that are killed or stopped, full disks.

What is tried without measuring has `fake_worker` in the place of the process that measures.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from forks import fork_workers
from paths import ROOT

from bench.common.errors import UserError
from bench.plan.benchmark import full_name, planned
from bench.plan.grid import Processes
from bench.plan.selection import Selection
from bench.run import runner
from bench.run.journal import Plan, RunProgress, RunState, Session
from bench.store.runs import load_frame, load_run

AXES = ["--grid=smoke", "--operation=gradient", "--batch=7", "--features=3", "--outputs=2"]
ALONE = [*AXES, "--device=cpu", "--kernel=autograd,matmul,einsum,outer_sum"]
RUN = [sys.executable, "-m", "bench", "run", *ALONE]
PATIENCE_S = 120
TINY = Selection(
    grid="smoke", operation=("gradient",), kernel=("autograd", "matmul", "einsum"), device=("cpu",),
    sizes={"batch": (7,), "features": (3,), "outputs": (2,)},
)  # fmt: skip
Run = Callable[..., Path]


def done(folder: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for path in folder.glob("unfinished/*.jsonl"):
        state = RunState(path)
        state.read()
        found |= {(end.process, end.fullname): end.sample for end in state.ends if end.sample}
    return found


def samples_of(path: Path) -> dict[tuple[int, str], Any]:
    found = [
        (one.number, entry.fullname, one.model_dump(by_alias=True, exclude_none=True))
        for entry in load_run(path).benchmarks
        for one in entry.samples
    ]
    assert len({one[:2] for one in found}) == len(found), "done twice"
    return {(number, name): sample for number, name, sample in found}


def is_kept(sample: dict[str, Any], stored: dict[str, Any]) -> bool:
    """Say whether a sample was stored as it was measured; the run may find it disturbed."""
    own = {name: value for name, value in sample.items() if value is not None}
    return own == {name: stored.get(name) for name in own} | {"contended": own["contended"]}


# --- without measuring -------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run three kernels in the folder of the test, with a worker that measures nothing."""
    monkeypatch.setattr(runner, "_PYTEST", (sys.executable, "-m", "fake_worker"))
    monkeypatch.setattr(runner, "POLL_S", 0.02)
    fork_workers(monkeypatch)

    def run(
        show: Callable[[RunProgress], None] = lambda _: None,
        resume: bool = False,
        axes: Selection = TINY,
        say: Callable[[str], None] = lambda _: None,
        processes: tuple[int, int] = (2, 2),
        **behaviour: Any,
    ) -> Path:
        monkeypatch.setenv("FAKE_WORKER", json.dumps(behaviour))
        given: Any = {"processes": Processes(*processes), "resume": resume, "say": say}
        return runner.run_plan(planned(axes), axes, tmp_path, show, **given)

    return run


def stored(path: Path) -> pd.DataFrame:
    return load_frame([path]).set_index("kernel")


def test_a_run_is_stored_and_leaves_nothing_beside(run: Run, tmp_path: Path) -> None:
    path = run()
    assert set(stored(path)["status"]) == {"ok"}
    assert {number for number, _ in samples_of(path)} == {1, 2}
    assert list(tmp_path.rglob("*")) == [tmp_path / "runs", path.parent, path]
    again = run()  # it may end in the same second
    assert again != path
    assert len(list(tmp_path.rglob("*.json"))) == 2


def test_a_stored_number_is_in_the_file_once_and_its_lines_are_few(run: Run) -> None:
    path = run()
    text = path.read_text(encoding="utf-8")
    document = json.loads(text)
    assert text.count("\n") < 3 * len(document) + len(document["benchmarks"] * 2)
    for outcome, entry in zip(document["outcomes"], document["benchmarks"], strict=True):
        assert entry["extra_info"]["speedup"] > 0
        assert outcome["status"] == "ok"
        assert not {"speedup", "median_s", "peak_bytes"} & outcome.keys()
        assert not {"flops", "predicted_peak_bytes", "reason"} & entry["extra_info"].keys()
        assert entry["samples"]["process"] == [1, 2]
        assert entry["samples"]["median_s"] == [1e-3, 1e-3]
        assert not any(set(column) == {None} for column in entry["samples"].values())


def test_a_benchmark_has_as_many_processes_as_it_needs(run: Run) -> None:
    path = run(processes=(2, 5), einsum="varies")
    taken = {name: {n for n, other in samples_of(path) if other == name}
             for _, name in samples_of(path)}  # fmt: skip
    frame = stored(path)
    of_kernel = {kernel: taken[name] for kernel, name in frame["fullname"].items()}
    assert of_kernel == {"autograd": {1, 2}, "matmul": {1, 2}, "einsum": {1, 2, 3, 4, 5}}
    assert frame["processes"].to_dict() == {"autograd": 2, "matmul": 2, "einsum": 5}
    assert json.loads(path.read_text())["settings"]["processes"] == "2 to 5"


def test_a_fixed_number_of_processes_is_fixed(run: Run) -> None:
    path = run(processes=(3, 3), einsum="varies")
    assert stored(path)["processes"].to_dict() == dict.fromkeys(("autograd", "matmul", "einsum"), 3)
    assert json.loads(path.read_text())["settings"]["processes"] == 3


def test_what_was_chosen_for_a_process_stays_so_when_the_run_goes_on(
    run: Run, tmp_path: Path
) -> None:
    def stop(progress: RunProgress) -> None:
        assert progress.is_open or progress.process > 3
        if progress.process == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stop, processes=(2, 5), einsum="varies")
    (journal,) = tmp_path.glob("unfinished/*.jsonl")
    state = RunState(journal)
    state.read()
    (einsum,) = state.chosen[3]
    assert "einsum" in einsum
    assert 4 not in state.chosen
    path = run(resume=True, processes=(2, 5), einsum="varies")
    assert stored(path)["processes"].to_dict() == {"autograd": 2, "matmul": 2, "einsum": 5}


def test_numbers_of_threads_are_measured_in_processes_of_their_own_and_resumed(run: Run) -> None:
    """The worker ends where one of its variables says another number than its option."""
    axes = replace(TINY, threads=(2, 1))

    def stop(progress: RunProgress) -> None:
        if progress.process == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stop, axes=axes, einsum="sleep")
    path = run(resume=True, axes=axes)
    frame = load_frame([path])
    assert sorted(frame["threads"]) == [1, 1, 1, 2, 2, 2]
    assert set(frame["status"]) == {"ok"}
    assert set(frame["fullname"].str.endswith("-2threads]") == (frame["threads"] == 2)) == {True}
    assert json.loads(path.read_text())["settings"]["threads"] == [1, 2]
    of_two, of_one = set[int](), set[int]()
    for (_, name), sample in samples_of(path).items():
        (of_two if name.endswith("-2threads]") else of_one).add(sample["pid"])
    assert not of_two & of_one


@pytest.mark.parametrize(
    ("kernel", "how", "status", "reason"),
    [
        ("matmul", "abort", "crashed", "its process ended: aborted"),
        ("matmul", "killed", "oom", "its process was killed, as if for want of memory"),
        ("matmul", "lost", "crashed", "an illegal memory access"),
        ("einsum", "sleep", "timeout", "in process 1: took longer than 2 s; killed"),
    ],
)
def test_a_process_that_ends_early_costs_one_benchmark(
    kernel: str, how: str, status: str, reason: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "CASE_TIMEOUT_S", 2.0 if how == "sleep" else PATIENCE_S)
    frame = stored(run(**{kernel: how}))
    usual = dict.fromkeys(("autograd", "matmul", "einsum"), "ok")
    assert frame["status"].to_dict() == usual | {kernel: status}
    assert frame.loc[kernel, "reason"] == reason


def test_a_run_of_which_nothing_was_tried_is_refused_and_leaves_nothing(
    run: Run, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"none of 3 can .* one call takes too long"):
        run(**dict.fromkeys(("autograd", "matmul", "einsum"), "infeasible"))
    assert not (tmp_path / "unfinished").exists()
    assert not list(tmp_path.rglob("*.json"))


def test_a_runner_that_is_stopped_goes_on(run: Run, tmp_path: Path) -> None:
    def stop(progress: RunProgress) -> None:
        if progress.process == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stop, einsum="sleep")
    before = done(tmp_path)
    assert not list(tmp_path.rglob("*.json"))
    after = samples_of(run(resume=True))
    assert all(is_kept(sample, after[key]) for key, sample in before.items())
    assert len(after) == 6
    assert not (tmp_path / "unfinished").exists()


def test_a_full_disk_loses_nothing(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written on") as caught:
        run(room=9_000)
    assert "run --resume" in str(caught.value)
    assert list(tmp_path.glob("unfinished/*"))
    assert set(stored(run(resume=True))["status"]) == {"ok"}


def test_a_run_of_which_nothing_begins_says_why(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the measuring process failed: .*Error"):
        run(room="none")
    assert not list(tmp_path.glob("unfinished/*"))


def test_with_nothing_to_resume_a_run_starts_and_says_so(run: Run) -> None:
    said: list[str] = []
    assert set(stored(run(resume=True, say=said.append))["status"]) == {"ok"}
    (line,) = said
    assert line.endswith("has no unfinished run of these benchmarks; a new run starts")


@pytest.mark.parametrize("differs", ["commit", "processes", "wanted"])
def test_a_run_of_another_commit_or_plan_is_not_mixed_in(
    differs: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "unfinished").mkdir()
    state = RunState(tmp_path / "unfinished" / "20260101T000000-9.jsonl")
    names = {full_name(entry): entry.threads for entry in planned(TINY)}
    plan = {"wanted": names, "arguments": TINY.as_arguments(), "processes": 2}
    others = {"processes": 3, "wanted": dict([*names.items()][:1])}
    state.note(Plan(**plan | {k: v for k, v in others.items() if k == differs}))
    state.note(Session(head={"commit_info": {"id": "another"}}))
    before, said = state.path.read_bytes(), list[str]()
    if differs == "commit":
        with pytest.raises(UserError, match="of one commit; the unfinished one is of another"):
            run(resume=True, say=said.append)
        assert not said
    else:
        assert len(samples_of(run(resume=True, say=said.append))) == 6
        assert len(said) == 1
    assert state.path.read_bytes() == before


# --- measured ----------------------------------------------------------------------------------


def children_of(runner: subprocess.Popen[Any]) -> list[int]:
    try:
        text = Path(f"/proc/{runner.pid}/task/{runner.pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(pid) for pid in text.split()]


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")


@pytest.mark.slow
@needs_proc
def test_an_interrupted_runner_leaves_no_process_and_says_how_to_go_on(tmp_path: Path) -> None:
    """It starts as in the background of a script, where the shell has it ignore SIGINT."""
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *RUN, f"--out={tmp_path}"]
    runner = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE_S
    while len(done(tmp_path)) < 2:
        assert runner.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (child,) = children_of(runner)
    runner.send_signal(signal.SIGINT)
    _, said = runner.communicate(timeout=PATIENCE_S)
    wait_until_gone(child)
    assert runner.returncode == 130
    assert "run --resume" in said
    assert "Traceback" not in said
    assert len(done(tmp_path)) >= 2
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.slow
@needs_proc
def test_a_kill_at_any_moment_loses_nothing_and_repeats_nothing(tmp_path: Path, kill: int) -> None:
    """Kill the runner or its child at a random moment, resume, and hold what is stored.

    A killed child costs the benchmark that it was at, and that alone.
    """
    chance = random.Random(kill)
    command = [*RUN, f"--out={tmp_path}"]
    runner = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    time.sleep(chance.uniform(0.5, 16))
    victim, children = runner.pid, children_of(runner)
    if chance.random() < 0.5 and children:
        victim = children[0]
    if runner.poll() is None:
        os.kill(victim, signal.SIGKILL)
    runner.wait(PATIENCE_S)
    for child in children:
        wait_until_gone(child)
    before = done(tmp_path)
    if not list(tmp_path.rglob("*.json")):
        resumed = [*command, "--resume"]  # which starts anew where nothing has begun
        assert subprocess.run(resumed, cwd=ROOT, timeout=PATIENCE_S, check=False).returncode == 0
    (path,) = tmp_path.rglob("*.json")
    after = samples_of(path)
    assert all(is_kept(sample, after[key]) for key, sample in before.items())
    frame = load_frame([path])
    assert len(frame) == 4
    is_ok = frame["status"] == "ok"
    assert set(frame["status"]) <= {"ok", "oom"}
    assert sum(~is_ok) <= (victim != runner.pid)
    for name in frame.loc[is_ok, "fullname"]:
        assert {1, 2} <= {number for number, one in after if one == name}
    assert not (tmp_path / "unfinished").exists()


@pytest.mark.slow
def test_two_runners_on_one_folder_do_not_harm_each_other(tmp_path: Path) -> None:
    command = [*RUN, "--kernel=autograd,matmul", f"--out={tmp_path}", "--processes=1"]
    # As on two machines that share the folder: on one they would take turns.
    locks = [os.environ | {"MLR_BENCH_LOCK": str(tmp_path / f"{n}.lock")} for n in range(2)]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, env=e) for e in locks]
    assert [runner.wait(PATIENCE_S) for runner in both] == [0, 0]
    paths = list(tmp_path.rglob("*.json"))
    assert len(paths) == 2
    for path in paths:
        assert set(load_frame([path])["status"]) == {"ok"}
