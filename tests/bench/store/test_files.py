"""Files are there whole or not at all, whatever happens while they are written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import scaling_runs
from paths import ROOT

from bench.common.errors import single_line
from bench.scaling.records import ScalingRun
from bench.store.files import append_line, atomic_write


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, "ä")
    whole = path.read_bytes()
    append_line(path, "bcd")
    both = path.read_bytes()
    for end in range(len(whole), len(both)):
        path.write_bytes(both[:end])
        append_line(path, "e")
        assert path.read_text() == "ä\ne\n"


SQUEEZED = """
import resource, signal, sys
from pathlib import Path
from bench.store.files import append_line

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
append_line(path, "x" * 300)
before = path.read_bytes()
for share in range(1, 100, 7):  # of the line, that still has room
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10 * share, resource.RLIM_INFINITY))
    try:
        append_line(path, "y" * 1000)
    except OSError:
        assert path.read_bytes() == before, share
    else:
        raise SystemExit("the line had no room")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
append_line(path, "z")
assert path.read_bytes() == before + b"z\\n"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of a file by Linux's rlimit")
def test_a_line_without_room_leaves_no_part_of_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SQUEEZED, str(tmp_path / "lines")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "a.txt"
    atomic_write(path, "one")
    atomic_write(path, "two")
    with pytest.raises(FileExistsError):
        atomic_write(path, "three", exclusive=True)

    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic_write(path, "four")
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_kill_left_of_a_result_is_none(tmp_path: Path) -> None:
    path = scaling_runs.run_of().store(tmp_path)
    path.with_name(f".{path.stem}.17.tmp.json").write_text("{")
    assert ScalingRun.latest(tmp_path) == [scaling_runs.run_of()]


def test_plain_shortens_and_escapes() -> None:
    assert single_line("x" * 500, 20) == "x" * 10 + "…" + "x" * 10
    assert single_line("\u202e\x00\x9b\ud800") == "\\u202e\\x00\\x9b\\ud800"
