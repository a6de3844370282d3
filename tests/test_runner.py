"""Nothing measured is lost: runners killed and stopped, and what comes of it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.journal import Journal
from bench.store import load_frame

ROOT = Path(__file__).resolve().parent.parent
AXES = ["--grid=smoke", "--stage=gradient", "--batch=7", "--features=3", "--outputs=2"]
ALONE = [*AXES, "--device=cpu"]
PATIENCE_S = 120


def events(folder: Path) -> list[dict[str, Any]]:
    found = list(folder.glob("unfinished/*.jsonl"))
    return list(Journal(found[0]).new_events()) if found else []


def done(folder: Path) -> dict[str, Any]:
    return {e["fullname"]: e["benchmark"] for e in events(folder) if e["event"] == "done"}


def started_run(folder: Path) -> subprocess.Popen[str]:
    """Start a run and come back once it has measured two cases."""
    command = [sys.executable, "-m", "bench", "run", *ALONE, f"--out={folder}"]
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


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_runner_that_is_stopped_loses_nothing_measured(
    tmp_path: Path, number: signal.Signals
) -> None:
    runner = started_run(tmp_path)
    child = child_of(runner)
    runner.send_signal(number)
    _, said = runner.communicate(timeout=PATIENCE_S)
    wait_until_gone(child)  # it ends by itself, at the latest when its case is done
    if number == signal.SIGINT:
        assert runner.returncode == 130
        assert "run --resume" in said
        assert "Traceback" not in said
    before = done(tmp_path)
    assert 2 <= len(before) <= 9
    assert not list(tmp_path.rglob("*.json"))

    assert main(["run", *ALONE, f"--out={tmp_path}", "--resume"]) == 0
    (path,) = tmp_path.rglob("*.json")
    run = json.loads(path.read_text())
    names = [outcome["fullname"] for outcome in run["outcomes"]]
    assert len(names) == len(set(names)) == 9
    stored = {entry["fullname"]: entry for entry in run["benchmarks"]}
    for name, benchmark in before.items():
        assert stored[name]["stats"]["data"] == benchmark["stats"]["data"]
    assert set(load_frame([path])["status"]) == {"ok"}
    assert not (tmp_path / "unfinished").exists()


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
    journal.append("plan", wanted=names, arguments=arguments)
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


def test_a_child_that_dies_costs_its_case_alone(tmp_path: Path) -> None:
    runner = started_run(tmp_path)
    os.kill(child_of(runner), signal.SIGKILL)
    runner.communicate(timeout=PATIENCE_S)
    assert runner.returncode == 0
    (path,) = tmp_path.rglob("*.json")
    frame = load_frame([path])
    assert len(frame) == 9
    lost = frame[frame["status"] != "ok"]
    assert len(lost) <= 1
    assert set(lost["status"]) <= {"crashed"}
    assert all("killed" in reason for reason in lost["reason"])
