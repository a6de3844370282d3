"""A child process: what it reports and is asked, and that nothing of it is left."""

import os
import subprocess
import sys
import time

import pytest
from paths import ROOT

from bench.common.errors import UserError
from bench.run.process import WorkerProcess, describe_exit


def worker(code: str, timeout_s: float = 60, **given: bool) -> WorkerProcess:
    return WorkerProcess([sys.executable, "-c", code], timeout_s, **given)


def test_it_reports_events_in_order_and_ends() -> None:
    code = (
        "import os\nfor n in range(3): print('{\"n\": %d}' % n)\nassert os.getsid(0) == os.getpid()"
    )
    with worker(code) as child:
        assert [event["n"] for event in child.events()] == [0, 1, 2]
        ended = child.end()
    assert (ended.code, ended.late) == (0, False)
    assert ended.reason == "its process ended (exit status 0)"


def test_it_answers_questions() -> None:
    echo = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
    with worker(echo) as child:
        assert child.ask({"do": "ä"}) == {"do": "ä"}
        assert child.ask({"do": 2}) == {"do": 2}


def test_one_that_has_ended_answers_nothing_and_says_why() -> None:
    with worker("import sys; sys.exit('went wrong')") as child:
        assert child.ask({"do": "x" * 100_000}) is None
        ended = child.end()
    assert ended.reason == "its process ended (exit status 1): went wrong"


def test_what_prints_something_else_is_one_line() -> None:
    with (
        worker("print('hello')") as child,
        pytest.raises(UserError, match=r"must print nothing.*'hello'") as caught,
    ):
        child.read()
    assert "\n" not in str(caught.value)


def test_one_without_an_event_in_time_is_killed() -> None:
    code = "import time; print('{}', flush=True); time.sleep(60)"
    with worker(code, 2) as child:
        assert list(child.events()) == [{}]
        ended = child.end()
    assert ended.late
    assert ended.reason == "took longer than 2 s; killed"


def test_extending_gives_it_more_time() -> None:
    with worker("import time; time.sleep(60)", 0.5, reports=False) as child:
        for _ in range(4):
            assert not child.wait(0.2)
            child.extend()
        assert child.end().late
        assert child.wait(30)


def test_leaving_kills_its_whole_group(tmp_path: os.PathLike[str]) -> None:
    code = (
        "import subprocess, sys\n"
        "other = subprocess.Popen(['sleep', '60'])\n"
        "print('{\"pid\": %d}' % other.pid, flush=True)\n"
        "other.wait()"
    )
    with worker(code) as child:
        event = child.read()
        assert event is not None
    deadline = time.monotonic() + 30
    while True:
        # As a zombie it has ended, and waits for init only.
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(event["pid"])],
                               capture_output=True, text=True, check=False).stdout  # fmt: skip
        if not state.strip() or state.startswith("Z"):
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_program_that_cannot_be_run_is_one_line() -> None:
    with pytest.raises(UserError, match="/nowhere: No such file"), WorkerProcess(["/nowhere"], 1):
        pass


def test_how_a_process_ends_in_words() -> None:
    assert describe_exit(-11) == "segmentation fault"
    assert describe_exit(-15) == "terminated"
    assert describe_exit(3) == "exit status 3"


def test_it_needs_no_torch() -> None:
    code = "import sys, bench.run.process; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert done.stdout == "False\n"
