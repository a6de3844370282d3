"""Nothing measured is lost: runners killed and stopped, and what comes of it."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from bench.cli.main import main
from bench.run.journal import Journal
from bench.store.runs import load_frame

AXES = ["--grid=smoke", "--stage=gradient", "--batch=7", "--features=3", "--outputs=2"]
ALONE = [*AXES, "--device=cpu", "--kernel=autograd,matmul,einsum,outer_sum"]
PATIENCE_S = 120


def events(folder: Path) -> list[dict[str, Any]]:
    found = list(folder.glob("unfinished/*.jsonl"))
    return list(Journal(found[0]).new_events()) if found else []


def done(folder: Path) -> dict[str, Any]:
    return {
        (e["pass"], e["fullname"]): e["take"]
        for e in events(folder)
        if e["event"] == "done" and e["take"] is not None
    }


def resume(folder: Path) -> int:
    """Go on with a run in a process of its own: this one may hold other tests' kernels."""
    command = [sys.executable, "-m", "bench", "run", *ALONE, f"--out={folder}", "--resume"]
    return subprocess.run(command, cwd=ROOT, timeout=PATIENCE_S, check=False).returncode


def started_run(folder: Path) -> subprocess.Popen[str]:
    """Start a run and come back once it has measured two cases.

    It starts as in the background of a script, where the shell has it ignore SIGINT.
    """
    start = [sys.executable, "-m", "bench", "run", *ALONE, f"--out={folder}"]
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *start]
    runner = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE_S
    while len(done(folder)) < 2:
        assert runner.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return runner


def child_of(runner: subprocess.Popen[str]) -> int:
    children = Path(f"/proc/{runner.pid}/task/{runner.pid}/children").read_text().split()
    return int(children[0])


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")


def takes_of(path: Path) -> dict[tuple[int, str], Any]:
    entries = json.loads(path.read_text())["benchmarks"]
    found = [(t["pass"], e["fullname"], t) for e in entries for t in e["takes"]]
    assert len({one[:2] for one in found}) == len(found), "done twice"
    return {(number, name): take for number, name, take in found}


@needs_proc
def test_a_runner_that_is_stopped_loses_nothing_measured(tmp_path: Path) -> None:
    runner = started_run(tmp_path)
    child = child_of(runner)
    runner.send_signal(signal.SIGINT)
    _, said = runner.communicate(timeout=PATIENCE_S)
    wait_until_gone(child)
    assert runner.returncode == 130
    assert "run --resume" in said
    assert "Traceback" not in said
    before = done(tmp_path)
    assert len(before) >= 2
    assert not list(tmp_path.rglob("*.json"))

    assert resume(tmp_path) == 0
    (path,) = tmp_path.rglob("*.json")
    after = takes_of(path)
    for key, take in before.items():
        assert after[key] == take
    assert len(load_frame([path])) == 4
    assert set(load_frame([path])["status"]) == {"ok"}
    assert not (tmp_path / "unfinished").exists()


@needs_proc
def test_a_kill_at_any_moment_loses_nothing_and_repeats_nothing(tmp_path: Path, kill: int) -> None:
    """Kill the runner or its child at a random moment, resume, and hold what is stored."""
    chance = random.Random(kill)
    axes = ["--grid=smoke", "--stage=gradient", "--batch=7", "--features=3", "--outputs=2",
            "--device=cpu", "--kernel=autograd,matmul,einsum"]  # fmt: skip
    command = [sys.executable, "-m", "bench", "run", *axes, f"--out={tmp_path}"]
    runner = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    time.sleep(chance.uniform(0.5, 16))
    victim = runner.pid
    if chance.random() < 0.5 and runner.poll() is None and (children := children_of(runner)):
        victim = children[0]
    if runner.poll() is None:
        os.kill(victim, signal.SIGKILL)
    if victim == runner.pid:
        runner.wait(PATIENCE_S)
        for event in Path("/proc").glob("[0-9]*/cmdline"):
            wait_unless_ours(event, tmp_path)
    else:
        runner.wait(PATIENCE_S)
        assert runner.returncode == 0
    before = done(tmp_path)
    if not list(tmp_path.rglob("*.json")):
        resumed = [*command, *(["--resume"] if events(tmp_path) else [])]
        assert subprocess.run(resumed, cwd=ROOT, timeout=PATIENCE_S, check=False).returncode == 0
    (path,) = tmp_path.rglob("*.json")
    after = takes_of(path)
    for key, take in before.items():
        assert after[key] == take
    frame = load_frame([path])
    assert sorted(frame["kernel"]) == ["autograd", "einsum", "matmul"]
    assert set(frame["status"]) == {"ok"}
    for name in frame["fullname"]:
        assert {1, 2} <= {number for number, one in after if one == name}
    assert not (tmp_path / "unfinished").exists()


def children_of(runner: subprocess.Popen[Any]) -> list[int]:
    try:
        text = Path(f"/proc/{runner.pid}/task/{runner.pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(pid) for pid in text.split()]


def wait_unless_ours(command: Path, folder: Path) -> None:
    """Wait for an orphaned child that still writes to the journal of this folder."""
    try:
        ours = str(folder) in command.read_text()
    except OSError:
        return
    if ours:
        wait_until_gone(int(command.parent.name))


@needs_proc
def test_a_full_disk_loses_nothing_measured(tmp_path: Path) -> None:
    """Where the journal cannot grow, the run ends with one line and goes on when there is room."""
    command = [sys.executable, "-m", "bench", "run", *ALONE, f"--out={tmp_path}"]
    room = 9_000
    ended = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "cannot be written" in ended.stderr
    (journal,) = tmp_path.glob("unfinished/*.jsonl")
    assert journal.stat().st_size <= room
    finished = [e for e in events(tmp_path) if e["event"] == "done"]
    assert finished
    assert resume(tmp_path) == 0
    (path,) = tmp_path.rglob("*.json")
    assert set(load_frame([path])["status"]) == {"ok"}


@needs_proc
def test_two_runners_on_one_folder_do_not_harm_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "run", *ALONE, f"--out={tmp_path}", "--passes=1"]
    command.append("--kernel=autograd,matmul")
    # As on two machines that share the folder: on one they would take turns.
    locks = [os.environ | {"MLR_TIMING_LOCK": str(tmp_path / f"{n}.lock")} for n in range(2)]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, env=e) for e in locks]
    assert [runner.wait(PATIENCE_S) for runner in both] == [0, 0]
    paths = list(tmp_path.rglob("*.json"))
    assert len(paths) == 2
    for path in paths:
        assert set(load_frame([path])["status"]) == {"ok"}


def test_there_must_be_something_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *ALONE, f"--out={tmp_path}", "--resume"]) == 2
    assert "goes on with an unfinished run" in capsys.readouterr().err


def test_a_run_of_another_commit_or_plan_is_not_mixed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "unfinished"
    folder.mkdir()
    journal = Journal(folder / "20260101T000000-999999999.jsonl")
    names = [f"bench/bench_gradient.py::bench_gradient[{k}-cpu-float64-7x3x2]" for k in ("matmul",)]
    arguments = [*AXES[:2], "--kernel=matmul", "--device=cpu", *AXES[2:], "--seed=0"]
    journal.append("plan", wanted=names, arguments=arguments, passes=2)
    journal.append("session", commit_info={"id": "another"}, machine_info={}, surroundings={})
    assert main(["run", *ALONE, "--kernel=matmul", f"--out={tmp_path}", "--resume"]) == 2
    assert "a run is of one commit; the unfinished one is of another" in capsys.readouterr().err
    assert main(["run", *ALONE, "--kernel=einsum", f"--out={tmp_path}", "--resume"]) == 2
    assert "goes on with an unfinished run" in capsys.readouterr().err
    assert journal.path.exists()


def test_a_torn_line_is_left_out_and_cut_off(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append("plan", wanted=["ä"])
    whole = journal.path.read_bytes()
    journal.append("done", fullname="b")
    both = journal.path.read_bytes()
    for end in range(len(whole), len(both)):
        journal.path.write_bytes(both[:end])
        reader = Journal(journal.path)
        assert [event["event"] for event in reader.new_events()] == ["plan"]
        reader.drop_torn_end()
        reader.append("done", fullname="c")
        assert [event.get("fullname") for event in reader.new_events()] == ["c"]
        assert journal.path.read_bytes().startswith(whole)
        os.truncate(journal.path, 0)


def test_a_child_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    runner = started_run(tmp_path)
    os.kill(child_of(runner), signal.SIGKILL)
    runner.communicate(timeout=PATIENCE_S)
    assert runner.returncode == 0
    (path,) = tmp_path.rglob("*.json")
    frame = load_frame([path])
    assert len(frame) == 4
    assert set(frame["status"]) == {"ok"}


SQUEEZED = """
import resource, signal, sys
from pathlib import Path
from bench.run.journal import Journal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]))
journal.append("start", text="x" * 300)
before = journal.path.read_bytes()
for share in range(1, 100, 7):  # of the line, that still has room
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10 * share, resource.RLIM_INFINITY))
    try:
        journal.append("done", text="y" * 940)
    except OSError:
        assert journal.path.read_bytes() == before, share
    else:
        raise SystemExit("the line had no room")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
journal.append("done", text="z")
print([event["event"] for event in journal.new_events()])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of a file by Linux's rlimit")
def test_an_event_without_room_leaves_no_part_of_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SQUEEZED, str(tmp_path / "j.jsonl")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "['start', 'done']", done.stderr
