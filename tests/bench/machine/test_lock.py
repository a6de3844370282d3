"""One run at a time on a machine, and who it is that the others wait for."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from filelock import FileLock
from paths import ROOT

from bench.cli.main import main
from bench.machine.lock import LOCK_VARIABLE, exclusive_machine

TINY = ["--grid=smoke", "--operation=gradient", "--batch=7", "--features=3", "--outputs=2",
        "--device=cpu", "--kernel=matmul"]  # fmt: skip
PATIENCE_S = 60
HOLD = """
import sys, time
from bench.machine.lock import exclusive_machine
with exclusive_machine(lambda line: print(line, flush=True)):
    with open(sys.argv[1], "a") as file:
        print("in", file=file, flush=True)
        time.sleep(float(sys.argv[2]))
        print("out", file=file, flush=True)
"""


def holder(log: Path, seconds: float, lock: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(log), str(seconds)], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, env=os.environ | {LOCK_VARIABLE: str(lock)},
    )  # fmt: skip


def test_the_second_waits_says_for_whom_and_a_kill_leaves_nothing(tmp_path: Path) -> None:
    log, lock = tmp_path / "log", tmp_path / "lock"
    first = holder(log, PATIENCE_S, lock)
    deadline = time.monotonic() + PATIENCE_S
    while not log.exists() or "in\n" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    second = holder(log, 0, lock)
    assert second.stdout is not None
    assert f"waiting for that of process {first.pid} to end" in second.stdout.readline()
    assert second.poll() is None
    first.send_signal(signal.SIGKILL)
    assert second.wait(PATIENCE_S) == 0
    assert log.read_text().split() == ["in", "in", "out"]
    first.wait(PATIENCE_S)


def test_its_own_file_goes_with_it_and_no_two_hold_it_then(tmp_path: Path) -> None:
    """While one ends, others have the file open that goes, or make it anew: each waits its turn."""
    log = tmp_path / "log"
    environment = {name: text for name, text in os.environ.items() if name != LOCK_VARIABLE}
    (tmp_path / "tmp").mkdir()
    environment["TMPDIR"] = str(tmp_path / "tmp")
    hold = HOLD.replace("import sys, time", "import bench.machine.lock, sys, time").replace(
        "with exclusive", "bench.machine.lock.POLL_S = 0.001\nfor _ in range(20):\n with exclusive"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", hold, str(log), "0.001"], cwd=ROOT, env=environment,
                         stdout=subprocess.DEVNULL)
        for _ in range(3)
    ]  # fmt: skip
    assert [one.wait(PATIENCE_S) for one in started] == [0, 0, 0]
    assert log.read_text().split() == ["in", "out"] * 60
    assert not list((tmp_path / "tmp").iterdir())


def test_a_run_waits_before_it_measures_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LOCK_VARIABLE, str(tmp_path / "lock"))
    acquire = FileLock.acquire

    def wait(self: FileLock, *, blocking: bool = True) -> object:
        if blocking:
            raise KeyboardInterrupt
        return acquire(self, blocking=False)

    with exclusive_machine(pytest.fail):
        monkeypatch.setattr(FileLock, "acquire", wait)
        assert main(["run", *TINY, f"--out={tmp_path / 'out'}"]) == 130
    assert f"waiting for that of process {os.getpid()} to end" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with exclusive_machine(pytest.fail):
        pass


def test_a_file_that_cannot_be_locked_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "somewhere")
    (tmp_path / "file").touch()
    for path in (tmp_path / "link", tmp_path, tmp_path / "file" / "lock"):
        monkeypatch.setenv(LOCK_VARIABLE, str(path))
        assert main(["run", *TINY, f"--out={tmp_path / 'out'}"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "take turns by locking a file" in said
    assert not (tmp_path / "somewhere").exists()
    assert not (tmp_path / "out").exists()


def test_the_lock_is_of_this_user_where_nobody_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LOCK_VARIABLE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with exclusive_machine(pytest.fail):
        assert [path.name for path in tmp_path.iterdir()] == [f"mlr-timing-{os.getuid()}.lock"]
    assert not list(tmp_path.iterdir())
