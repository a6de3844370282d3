"""Tests with `paired`, run by pytest as a user does: what passes, fails, and is said."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path

import pytest
from paired_sessions import ONE_PROCESS, pairs_of, run, write
from paths import HELPERS, ROOT
from pytest_benchmark.cli import main as pytest_benchmark

from bench import plugin


def test_loading_it_imports_none_of_what_is_large() -> None:
    """Neither in a session nor in its processes, which spend most of their time on their start."""
    code = "import sys, {}; print(*sys.modules)"
    for name in ("bench.plugin", "bench.paired.worker"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(name)], cwd=ROOT, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        large = {"torch", "pandas", "matplotlib", "numpy", "scipy", "mlr", "pydantic", "psutil"}
        assert not large & set(done.stdout.split())


ONCE = """
import pytest

def test_equal(paired):
    paired(sum, lambda values: sum(sorted(values)), inputs=lambda: ([3, 1, 2],))

def test_different(paired):
    paired(min, max, inputs=lambda: ([3, 1, 2],))

def test_raises(paired):
    paired(lambda: 1 / 0, dict)

def test_no_callable(paired):
    paired(3, dict)

def test_neither(paired):
    paired(dict)

def test_against(paired):
    paired(print, against="main", inputs=lambda: "was called")

def test_limit(paired):
    paired(dict, dict, slower_than=-1)

def test_misspelt(paired):
    paired(dict, dict, slowerthan=2)

def test_by_place(paired):
    paired(dict, dict, dict)
"""


def test_without_the_option_both_are_called_once_and_a_mistake_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, test_once=ONCE)
    done = run(tmp_path, "-rA", "--tb=short")
    assert done.returncode == 1
    assert "7 failed, 2 passed" in done.stdout
    assert "was called" in done.stdout
    for said in (
        "the results of ours and theirs must be equal; 1 and 3: make them alike, or say by equal=",
        "ours must not raise; ZeroDivisionError: division by zero (test_once.py:11): correct it",
        "ours of paired must be a function, and not what it returns; got 3 (int): correct it",
        "got neither: give one of them",
        "slower_than of paired must be a number above 0, such as 1.05 for 5 % more; got -1 (int)",
        "device and equal; got an unexpected keyword argument 'slowerthan': correct the call",
        "device and equal; too many positional arguments: correct the call",
    ):
        assert said in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "call.py" not in done.stdout


MADE_UP = """
import pytest

@pytest.mark.parametrize("ratio", [1.0, 1.05, 1.1])
def test_one(paired, ratio):
    paired(dict, dict)

@pytest.mark.parametrize("ratio", [1.05])
def test_asserts(paired, ratio):
    paired(dict, dict)
    assert ratio == 0

@pytest.mark.parametrize("ratio", [1.05, 1.1])
def test_twice(paired, ratio):
    paired(dict, dict)
    paired(dict, dict)

@pytest.mark.parametrize("ratio", [1.0])
def test_dynamic(request, ratio):
    request.getfixturevalue("paired")(dict, dict)

def test_other():
    pass
"""


def test_what_is_decided_of_a_pair_is_the_outcome_of_its_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, test_made_up=MADE_UP)
    junit, out = tmp_path / "junit.xml", tmp_path / "out.json"
    start = (str(HELPERS / "made_up_pairs.py"),)
    options = (f"--junitxml={junit}", f"--paired-json={out}", "-v", "--paired-inconclusive-exit=7")
    done = run(tmp_path, *options, start=start)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "4 failed, 2 passed, 2 inconclusive" in done.stdout
    assert "test_one[1.05] INCONCLUSIVE" in done.stdout
    assert "test_twice[1.05] INCONCLUSIVE" in done.stdout
    assert "test_twice[1.1] FAILED" in done.stdout
    assert "test_asserts[1.05] FAILED" in done.stdout  # an assertion counts whatever is open
    line = (
        r"ours takes 1\.\d+ \(1\.\d+–1\.\d+\) times the time of theirs \(\d+ processes, 95 %\); "
        r"slower_than=1\.05 is the limit"
    )
    assert re.search(line, done.stdout)
    assert "name it as an argument of the test" in done.stdout
    table = done.stdout.partition("= paired =")[2].partition("\ntest_made_up")[0].splitlines()
    assert max(map(len, table)) <= 80
    cases = {one.get("name"): one for one in ET.parse(junit).getroot().iter("testcase")}
    skipped = cases["test_one[1.05]"].find("skipped")
    assert skipped is not None
    assert "whether that is below slower_than=1.05 is open" in skipped.get("message", "")
    assert cases["test_one[1.0]"].find("skipped") is None
    assert cases["test_one[1.1]"].find("failure") is not None
    found = pairs_of(out)
    assert len(found) == 9
    unmet = found["test_made_up.py::test_dynamic[1.0]#1"]
    assert (unmet["outcome"], unmet["processes"]) == ("failed", 0)
    assert "name it as an argument of the test" in unmet["reason"]
    one = found["test_made_up.py::test_one[1.1]#1"]
    assert one["outcome"] == "failed"
    assert one["processes"] == len(one["log_ratios"]) > 12
    assert (one["ours_bytes"], one["theirs_bytes"]) == (2_000, 1_000)
    assert one["ratio"] == pytest.approx(1.1, rel=0.01)
    assert found["test_made_up.py::test_twice[1.05]#2"]["outcome"] == "passed"
    command = ["pytest-benchmark", "compare", str(out), "--columns=median,rounds"]
    monkeypatch.setattr(sys, "argv", command)
    pytest_benchmark()
    shown = capsys.readouterr().out
    assert "test_one[1.1]#1 ours" in shown
    assert "1.10" in shown


def test_the_exit_status_of_what_is_inconclusive_is_an_option(tmp_path: Path) -> None:
    write(tmp_path, test_made_up=MADE_UP)
    start = (str(HELPERS / "made_up_pairs.py"),)
    options = ("-k", "one and 1.05 or other", "--paired-inconclusive-exit=7", "-x")
    done = run(tmp_path, *options, start=start)
    assert done.returncode == 7, done.stdout
    assert "1 passed, 6 deselected, 1 inconclusive" in done.stdout


@pytest.mark.parametrize(
    ("how", "status"),
    [("Ctrl-C", 2), pytest.param("UserError", 4, marks=pytest.mark.slow)],
)
def test_a_session_that_is_ended_writes_what_it_knows(
    tmp_path: Path, how: str, status: int
) -> None:
    """Of a pair that was not decided by then it says just that."""
    write(tmp_path, test_made_up=MADE_UP)
    out = tmp_path / "out.json"
    start = (str(HELPERS / "made_up_pairs.py"), f"--paired-json={out}")
    done = run(tmp_path, "-k", "test_one", f"--end-by={how}", start=start)
    assert done.returncode == status, done.stdout + done.stderr
    found = pairs_of(out)["test_made_up.py::test_one[1.05]#1"]
    assert (found["outcome"], found["processes"]) == ("inconclusive", 2)
    assert "is open: the session was ended before it was decided" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_outside_of_a_test_it_is_one_line() -> None:
    with pytest.raises(SystemExit) as raised:
        plugin.paired(dict, dict, slower_than=2)
    said = str(raised.value)
    assert said.startswith("paired is a fixture of pytest; it was imported and called: write ")
    assert "\n" not in said


CONFTEST = """
import os
import pytest

def pytest_addoption(parser):
    parser.addoption("--size", type=int)
    parser.addoption("--randomly-seed", type=int, default=11)

def pytest_configure(config):
    # As pytest-randomly and pytest-rerunfailures do it, in the session and in its workers.
    if hasattr(config, "workerinput"):
        note(f"seed {config.workerinput['randomly_seed']}")
        if config.pluginmanager.has_plugin("xdist"):
            note(f"port {config.workerinput['sock_port']}")

@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["sock_port"] = 12

@pytest.fixture(scope="session")
def size(request):
    note(f"session {os.getpid()}")
    return request.config.getoption("--size")

def note(text):
    with open("notes.txt", "a") as file:
        file.write(text + chr(10))
"""
ONE = """
import os, sys
import pytest
from conftest import note

SEEN = set()

def test_sizes(paired, size):
    note(f"sizes {size}")
    paired(sum, sum, inputs=lambda: [1] * size)
    paired(max, max, inputs=lambda: [1] * size, slower_than=2)

@pytest.mark.parametrize("name", ["a/b::c", "ü[1]", "two words"])
def test_names(paired, name):
    paired(str.upper, str.upper, inputs=lambda: name)

def test_prints(paired):
    def prints(text):
        print('{"event": "finished"}')
        os.write(1, b"no JSON")
        assert sys.stdin is None or not os.read(0, 1)
        return text
    paired(prints, prints, inputs=lambda: "x")

def test_copies(paired):
    def seen(values):
        SEEN.add(id(values))
        values.sort()
        return values
    paired(seen, seen, inputs=lambda: [3, 1, 2])
    note(f"copies {len(SEEN)}")

def test_holds(paired):
    paired(lambda: len(bytearray(10**6)) * 0, lambda: len(bytearray(10**5)) * 0)

@pytest.mark.skip(reason="never")
def test_skipped(paired):
    paired(dict, dict)

def test_other():
    note("other")

class TestClass:
    def test_method(self, paired):
        paired(dict, dict)
        assert not SEEN, "in processes too"
"""


ENDING = """
import pytest


def test_differs(paired):
    paired(min, max, inputs=lambda: [1, 2])

def test_raises(paired):
    paired(lambda: 1 / 0, dict)

def test_raises_later(paired):
    calls = []
    def tires():
        calls.append(1)
        if len(calls) > 9:
            raise RuntimeError("tired")
    paired(tires, tires)

def test_inputs(paired):
    paired(dict, dict, inputs=lambda: open("none"))

def test_skips(paired, request):
    if hasattr(request.config, "workerinput"):
        pytest.skip("not here")
    paired(dict, dict)

def test_fails_before(paired, request):
    assert not hasattr(request.config, "workerinput"), "only there"
    paired(dict, dict)

def test_larger(paired):
    paired(lambda: len(bytes(10**6)), lambda: 10**6, larger_than=1.5)

def test_mistake(paired):
    paired(dict)
"""


BINDS = """
import sys

assert sys.argv[0] != "-c", "its port is taken"

def test_binds(paired):
    paired(dict, dict)
"""


def test_processes_run_the_tests_as_the_session_does(tmp_path: Path) -> None:
    """And what cannot be timed fails with one line."""
    write(tmp_path, conftest=CONFTEST, test_one=ONE, test_ending=ENDING, test_binds=BINDS)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\naddopts = --size 7\n")
    junit, out = tmp_path / "junit.xml", tmp_path / "out.json"
    done = run(tmp_path, "--paired", ONE_PROCESS, f"--paired-json={out}", f"--junitxml={junit}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "9 failed, 1 passed, 1 skipped, 8 inconclusive" in done.stdout, done.stdout
    assert "the time is up: try --paired-max-time" in done.stdout
    check_running(pairs_of(out), (tmp_path / "notes.txt").read_text().split("\n"))
    check_ending(done, pairs_of(out))
    assert len(ET.parse(junit).getroot().findall(".//testcase")) == 19


def check_running(found: dict[str, dict], notes: list[str]) -> None:
    """Check what the tests of `ONE` have done and what is known of their pairs."""
    found = {name: one for name, one in found.items() if name.startswith("test_one.py")}
    assert {name.rpartition("::test_")[2] for name in found} == {
        *("sizes#1", "sizes#2", "names[a/b::c]#1", "names[two words]#1", "prints#1", "copies#1"),
        *("holds#1", "method#1", r"names[\xfc[1]]#1"),
    }
    assert {one["processes"] for one in found.values()} == {1}
    assert {one["outcome"] for one in found.values()} == {"inconclusive"}
    holds = found["test_one.py::test_holds#1"]
    assert holds["ours_bytes"] == pytest.approx(10**6, rel=0.01)
    assert holds["theirs_bytes"] == pytest.approx(10**5, rel=0.05)
    assert found["test_one.py::test_sizes#2"]["slower_than"] == 2
    assert notes.count("sizes 7") == 2  # the process and the session
    assert len([one for one in notes if one.startswith("session")]) == 2
    assert notes.count("other") == 1  # a test without a pair is run in the session alone
    assert "copies 2" in notes  # one for each callable
    assert "seed 11" in notes
    assert ("port 12" in notes) == (find_spec("xdist") is not None)


def check_ending(done: subprocess.CompletedProcess[str], found: dict[str, dict]) -> None:
    """Check what is said of the tests of `ENDING`."""
    for said in (
        "the results of ours and theirs must be equal; 1 and 2",
        "ours must not raise; ZeroDivisionError: division by zero (test_ending.py:9)",
        "a call must not raise; RuntimeError: tired (test_ending.py:16)",
        "inputs must not raise; FileNotFoundError",
        "a test with paired must run in processes of its own too; there: Skipped: not here",
        "there: AssertionError: only there",
        "there: test_binds.py: AssertionError: its port is taken",
        "ours holds 977 KiB at peak and theirs ",
        "larger_than=1.5 is the limit",
        "got neither: give one of them",
    ):
        assert said in done.stdout, said
    assert "Traceback" not in done.stdout + done.stderr
    assert found["test_ending.py::test_differs#1"]["outcome"] == "differs"
    assert found["test_ending.py::test_larger#1"]["outcome"] == "failed"


CRASHES = """
import os

def test_before(paired):
    paired(min, max, inputs=lambda: [1, 2])

def test_crashes(paired):
    paired(lambda: os._exit(3), dict)

def test_after(paired):
    paired(min, max, inputs=lambda: [1, 2])
"""


@pytest.mark.slow
def test_a_pair_that_ends_two_processes_has_failed_and_the_others_are_timed(tmp_path: Path) -> None:
    write(tmp_path, test_crashes=CRASHES)
    done = run(tmp_path, "--paired", "--paired-max-time=1h")
    assert "3 failed" in done.stdout, done.stdout + done.stderr
    assert "could not time it; of the last: its process ended (exit status 3)" in done.stdout
    assert done.stdout.count("must be equal; 1 and 2") >= 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--paired", "--paired-json=none/out.json"), "--paired-json needs a folder that can be"),
        (("--paired", "--paired-json=."), "--paired-json needs a file that can be written; got ."),
        (("--paired", "-n2"), "--paired measures one process at a time; got -n: leave it out"),
        (("--paired-max-time=soon",), "takes a time such as 90s, 10m or 1h; got 'soon'"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    if "-n2" in options:
        pytest.importorskip("xdist")
    write(tmp_path, test_once=ONCE)
    done = run(tmp_path, *options)
    assert done.returncode == 4
    assert said in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


WHOLE = """
def work(count):
    return sum(number * number for number in range(count))

def unchanged(count):
    return work(count)

def longer(count):
    return work(count + count // 4)

def twice(count):
    return work(count), work(count)

def slow_at_first(count, seen=[]):
    if not seen:
        seen.append(sum(range(10**7)))
    return work(count)

def test_unchanged(paired):
    paired(unchanged, work, inputs=lambda: 500)

def test_longer(paired):
    paired(longer, work, inputs=lambda: 500, equal=lambda ours, theirs: True)

def test_half(paired):
    paired(work, twice, inputs=lambda: 500, slower_than=0.6, equal=lambda ours, theirs: True)

def test_first(paired):
    paired(slow_at_first, work, inputs=lambda: 500)
"""


@pytest.mark.slow
def test_a_whole_session_decides(tmp_path: Path) -> None:
    """More work fails, the same work and less passes; what is slow in its first call alone too."""
    write(tmp_path, test_whole=WHOLE)
    out = tmp_path / "out.json"
    done = run(tmp_path, "--paired", f"--paired-json={out}", "-v")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "test_longer FAILED" in done.stdout
    assert "1 failed, 3 passed" in done.stdout
    ratio = pairs_of(out)["test_whole.py::test_longer#1"]["ratio"]
    assert ratio == pytest.approx(1.25, rel=0.1)


CUDA = """
import torch

def test_device(paired):
    x = torch.ones(50, 50, device="cuda")
    paired(torch.sum, torch.sum, inputs=lambda: x, device="cuda")

def test_precision(paired):
    torch.set_float32_matmul_precision("high")
    paired(dict, dict, device="cuda")
    assert torch.get_float32_matmul_precision() == "high"
    open("kept", "a").close()

def test_unknown(paired):
    paired(dict, dict, device="abacus")
"""


@pytest.mark.slow
def test_a_gpu_is_timed_by_its_clock(tmp_path: Path) -> None:
    write(tmp_path, test_cuda=CUDA)
    out = tmp_path / "out.json"
    paths = (HELPERS / "fake_cuda" / "start", HELPERS, ROOT)
    done = run(tmp_path, "--paired", ONE_PROCESS, f"--paired-json={out}", paths=paths)
    assert re.search("1 failed.* 2 inconclusive", done.stdout), done.stdout + done.stderr
    said = "device of paired must be usable here; got 'abacus': known are cpu, cuda"
    assert said in done.stdout
    found = pairs_of(out)["test_cuda.py::test_device#1"]
    assert found["processes"] == 1
    assert found["ours_bytes"] is not None
    assert (tmp_path / "kept").exists()
