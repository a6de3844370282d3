"""The gate, end to end: mutants of the kernels, what users do wrong, and what it leaves behind."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest
from paths import ROOT

from bench.cli.main import main
from bench.experiments.gate_power.experiment import SUITE
from bench.gate.gate import Judged, Verdict
from bench.gate.output import (
    as_benchmarks,
    as_junit,
    as_markdown,
    github_annotations,
    headline,
    print_verdict,
    write_verdict,
)
from bench.gate.sequential import CANNOT_TELL, SLOWER, Finding
from bench.gate.versions import PREFIX, Side
from mlr import KERNELS

AXES = ["--stage=gradient", "--batch=40", "--features=5", "--outputs=4", "--device=cpu"]
# What each mutant has instead of what is there, and what the gate says of it.
MUTANTS = {
    "matmul": ("Gradient(x.T @ delta,", "Gradient(x.T.contiguous() @ delta,", "bytes at peak"),
    "einsum": ('"pi,pj->ij", x, delta)', '"pi,pj->ij", x, delta) * 1.001', "wrong: error"),
    "autograd": ("    o = delta.shape[1]\n    weight, bias = x.new_ones",
                 "    o = delta.shape[1]\n    x.T @ delta\n    weight, bias = x.new_ones",
                 "operations of a call"),
    "func_vjp": ("def func_vjp(x: X, delta: Delta) -> Gradient:\n",
                 "def func_vjp(x: X, delta: Delta) -> Gradient:\n    import os; os.abort()\n",
                 "crashed: its process ended (aborted"),
    "outer_sum": ("def outer_sum(", "def another_sum(", None),
}  # fmt: skip


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of the package, each in a folder."""
    found = []
    for name in ("old", "new"):
        shutil.copytree(
            ROOT / "mlr", tmp_path / name / "mlr", ignore=shutil.ignore_patterns("__pycache__")
        )
        found.append(tmp_path / name)
    return found[0], found[1]


def mutate(side: Path, *names: str) -> None:
    path = side / "mlr" / "gradients.py"
    text = path.read_text()
    for name in names:
        old, new, _ = MUTANTS[name]
        start = text.index(f"def {name}(")
        assert old in text[start:], name
        text = text[:start] + text[start:].replace(old, new, 1)
    path.write_text(text)


def gate(base: Path, head: Path, out: Path, *more: str) -> int:
    """Run a gate that has time to examine and none for blocks."""
    return main(["gate", str(base), str(head), *AXES, "--budget=1s", f"--out={out}", *more])


@pytest.fixture
def two_blocks(monkeypatch: pytest.MonkeyPatch) -> str:
    """The argument for just two, however slow: every look at the clock is a second later."""
    seconds = count()
    monkeypatch.setattr("bench.gate.gate.wall_clock", lambda: float(next(seconds)))
    return "--budget=2s"


def said(out: Path) -> dict[str, str]:
    cases = json.loads((out / "gate.json").read_text())["cases"]
    return {case["name"].partition("-")[0]: "; ".join(case["faults"]) for case in cases}


def test_mutants_are_found_and_only_they(sides: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = sides
    mutate(new, *MUTANTS)
    assert gate(old, new, tmp_path / "out") == 1
    found = said(tmp_path / "out")
    for name, (_, _, part) in MUTANTS.items():
        assert part is None or part in found[name], found
    assert {name for name, faults in found.items() if faults} == set(MUTANTS) - {"outer_sum"}
    told = json.loads((tmp_path / "out" / "gate.json").read_text())
    assert told["vanished"] == ["outer_sum"]
    assert told["new"] == ["another_sum"]

    suite = ElementTree.fromstring((tmp_path / "out" / "gate.xml").read_text())
    failed = {
        case.get("name", "").partition("-")[0] for case in suite if case.find("failure") is not None
    }
    assert failed == set(MUTANTS)
    assert int(suite.get("failures", 0)) == len(MUTANTS)


def test_what_is_allowed_by_name_fails_nothing(sides: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = sides
    mutate(new, "matmul", "outer_sum")
    only = "--kernel=matmul,einsum,outer_sum"
    assert gate(old, new, tmp_path, "--allow=matmul,outer_sum", only) == 3
    notes = json.loads((tmp_path / "gate.json").read_text())["cases"][0]["notes"]
    assert notes[0].startswith("allowed: bytes at peak")


def test_unchanged_code_takes_no_other_memory_and_does_no_other_work(
    sides: tuple[Path, Path], tmp_path: Path
) -> None:
    """Over the whole smoke grid; without time for blocks its times are undecided."""
    arguments = [str(sides[0]), str(sides[1]), "--budget=1s", f"--out={tmp_path}"]
    assert main(["gate", *arguments]) == 3
    told = json.loads((tmp_path / "gate.json").read_text())
    assert len(told["cases"]) >= 30
    assert [case["faults"] for case in told["cases"] if case["faults"]] == []
    assert {case["verdict"] for case in told["cases"]} == {CANNOT_TELL}


def test_a_base_of_another_make_is_one_clear_line(
    sides: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = sides
    registry = old / "mlr" / "registry.py"
    registry.write_text(registry.read_text().replace("def bind(", "def tie("))
    assert gate(old, new, tmp_path) == 2
    error = capsys.readouterr().err
    assert "the old side cannot be used: TypeError: its kernels are of another kind" in error
    (new / "mlr" / "metrics.py").write_text("def (")
    assert gate(new, new, tmp_path) == 2
    assert "the old side cannot be used: SyntaxError" in capsys.readouterr().err
    assert "Traceback" not in error


def test_no_common_case_is_one_clear_line(
    sides: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = sides
    mutate(old, "einsum")
    assert gate(old, new, tmp_path, "--kernel=einsum") == 2
    error = capsys.readouterr().err
    assert "a gate needs a case that is right on both sides; there is none: error" in error


@pytest.mark.parametrize("name", ["einsum", "outer_sum"])
def test_the_only_kernel_wrong_or_gone_is_a_failure(
    sides: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    """It is found, and not taken for nothing to compare."""
    mutate(sides[1], name)
    assert gate(*sides, tmp_path, f"--kernel={name}") == 1
    assert gate(*sides, tmp_path, "--kernel=matmul") == 3  # who asks for another is not bothered


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["no-such-revision"], "'no-such-revision' is none of them"),
        (["HEAD", "--tolerance=5%", "--target=5%"], "got --target 5% and --tolerance 5%"),
        (["HEAD", "--kernel=none"], "none"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gate", *arguments]) == 2
    error = capsys.readouterr().err
    assert part in error
    assert error.count("\n") == 1


def test_two_environments_take_turns(
    sides: tuple[Path, Path], tmp_path: Path, two_blocks: str
) -> None:
    """One interpreter under two names is two environments of the same version."""
    names = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        names.append(tmp_path / name / "python")
        names[-1].write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        names[-1].chmod(0o755)
    old, new = sides
    arguments = ["gate", str(old), str(new), *AXES, "--kernel=matmul,einsum", two_blocks]
    pythons = [f"--base-python={names[0]}", f"--head-python={names[1]}"]
    assert main([*arguments, *pythons, f"--out={tmp_path}"]) != 1
    told = json.loads((tmp_path / "gate.json").read_text())
    assert [case["faults"] for case in told["cases"]] == [[], []]
    assert len(told["blocks"]) == 2
    for block in told["blocks"]:
        for one in block.values():
            assert math.isfinite(one["log_ratio"])
            assert one["old_s"] > 0
    assert told["control"]["blocks"] == len(told["blocks"])


def test_a_side_that_dies_while_timed_costs_only_its_case(
    sides: tuple[Path, Path], tmp_path: Path, two_blocks: str
) -> None:
    old, new = sides
    path = new / "mlr" / "gradients.py"
    dies = "def matmul(x: X, delta: Delta) -> Gradient:\n    import mlr_count; mlr_count.up()\n"
    path.write_text(path.read_text().replace(dies.partition("    import")[0], dies, 1))
    # It lives through the examination, which calls it a few times, and not through the timing.
    (tmp_path / "mlr_count.py").write_text(
        "import os\ncalls = 0\ndef up():\n    global calls\n    calls += 1\n"
        "    if calls > 100:\n        os.abort()\n"
    )
    pythons = [f"--base-python={sys.executable}"]
    for more in ([], pythons):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(tmp_path))
            arguments = ["gate", str(old), str(new), *AXES, "--kernel=matmul,einsum"]
            assert main([*arguments, two_blocks, *more, f"--out={tmp_path}"]) in (3, 4)
        told = json.loads((tmp_path / "gate.json").read_text())
        assert len(told["blocks"]) == 2
        for block in told["blocks"]:
            assert "died" in block["matmul-cpu-float64-40x5x4"]
            assert "log_ratio" in block["einsum-cpu-float64-40x5x4"]
        assert told["cases"][0]["verdict"] == CANNOT_TELL
        assert "while timed: its process ended (aborted)" in told["cases"][0]["notes"][0]


def test_a_budget_that_ended_too_soon_says_which_to_try(
    sides: tuple[Path, Path], tmp_path: Path, two_blocks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["gate", *map(str, sides), *AXES, "--kernel=matmul", two_blocks]
    assert main([*arguments, f"--out={tmp_path}"]) in (3, 4)
    note = "The budget of 2 s ended after 2 blocks, of 1.00 s each."
    assert note in capsys.readouterr().out
    assert note in (tmp_path / "gate.md").read_text()
    assert json.loads((tmp_path / "gate.json").read_text())["notes"][0].startswith(note)


def test_an_interpreter_that_cannot_run_is_one_clear_line(
    sides: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(*sides, tmp_path, "--base-python=/no/such/python") == 2
    assert "a Python of the gate must be one that can be run" in capsys.readouterr().err
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 'no torch here' >&2\nexit 1\n")
    other.chmod(0o755)
    assert gate(*sides, tmp_path, f"--head-python={other}") == 2
    said = f"of {other} failed: its process ended (exit status 1): no torch here"
    assert f"the measuring process {said}" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyError("old"), OSError(28, "No space left"), SystemExit(1)])
def test_what_nobody_foresaw_is_one_line_and_never_the_status_of_a_slow_down(
    error: BaseException,
    sides: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("bench.cli.commands.gate.run_gate", fails)
    assert gate(*sides, tmp_path) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: the gate could not measure: {type(error).__name__}: ")
    assert "(at test_gate.py:" in said
    assert said.count("\n") == 1


def test_a_device_that_is_not_there_is_one_clear_line(
    sides: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("bench.measure.benchmark.absent", lambda device: f"no {device} here")
    assert gate(*sides, tmp_path, "--kernel=matmul,einsum") == 2
    said = capsys.readouterr().err
    assert "needs a case that this machine can measure; of 2 cases it can none: matmul-" in said
    assert said.endswith("is unsupported, no cpu here\n")


@pytest.mark.parametrize("printed", ["hello", "3"])
def test_a_side_that_prints_is_one_clear_line(
    printed: str, sides: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sides[1] / "mlr" / "gradients.py"
    path.write_text(path.read_text() + f"\nprint({printed!r})\n")
    assert gate(*sides, tmp_path, "--kernel=matmul") == 2
    said = capsys.readouterr().err
    assert "what a gate measures must print nothing" in said
    assert f"got {printed!r}" in said


MINE = """
from mlr import Gradient, kernel
COST = dict(flops=lambda m, n, o, s: 2 * m * n * o, bytes_moved=lambda m, n, o, s: m * n * s,
            workspace=lambda m, n, o, s: 0)
@kernel(stage="gradient", **COST)
def mine(x, delta):
    return Gradient(x.T @ delta, delta.sum(0))
"""


def forget(*names: str) -> None:
    """Let a process that has loaded kernels load them again, as the next one would."""
    for name in names:
        del KERNELS[name]


def test_a_users_kernel_is_held_against_what_it_was(
    sides: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = sides
    (old / "mine.py").write_text(MINE)
    other = MINE.replace("x.T @", "x.T.contiguous() @") + MINE.partition("s: 0)")[2].replace(
        "def mine", "def another"
    )
    (new / "mine.py").write_text(other)
    mine = [f"--kernel-file={new / 'mine.py'}"]
    assert gate(old, new, tmp_path, *mine, "--kernel=mine,matmul,another") == 1
    told = json.loads((tmp_path / "gate.json").read_text())
    found = said(tmp_path)
    assert "bytes at peak" in found["mine"]
    assert found["matmul"] == ""
    assert told["new"] == ["another"]
    # The same file for both: an unchanged kernel under two versions of the package.
    forget("mine", "another")
    capsys.readouterr()
    stranger = f"--kernel-file={shutil.copy(old / 'mine.py', tmp_path)}"
    assert gate(old, new, tmp_path, stranger, "--kernel=mine") == 3
    shown = capsys.readouterr()
    for text in (shown.err, (tmp_path / "gate.md").read_text()):
        assert "Both sides have the same kernel file" in text
    (old / "mine.py").write_text("1 / 0")
    forget("mine")
    assert gate(old, new, tmp_path, *mine, "--kernel=mine") == 2
    error = capsys.readouterr().err
    assert "the old side cannot be used: KernelFileError" in error
    assert "mine.py:1: ZeroDivisionError" in error


def test_a_kernel_file_that_one_side_lacks_is_named(
    sides: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As one in the checkout that is not committed yet."""
    old, new = sides
    monkeypatch.setattr("bench.cli.commands.gate.ROOT", old)
    (new / "mine.py").write_text(MINE)
    mine = f"--kernel-file={new / 'mine.py'}"
    assert gate(old, new, tmp_path, mine, "--kernel=mine") == 2
    said = capsys.readouterr().err
    assert f"no kernel is on both sides; mine.py is not in {old}: commit it" in said


def blocks_of(runner: int) -> list[int]:
    """Return the measuring processes of a gate."""
    found = []
    for child in psutil.Process(runner).children():
        with suppress(psutil.Error):  # it has ended meanwhile
            found += [child.pid] if "bench.gate.worker" in child.cmdline() else []
    return found


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_gate_that_is_stopped_leaves_nothing_behind(tmp_path: Path, sign: signal.Signals) -> None:
    command = [sys.executable, "-m", "bench", "gate", str(ROOT), *AXES, f"--out={tmp_path / 'out'}"]
    surroundings = {**os.environ, "TMPDIR": str(tmp_path)}
    runner = subprocess.Popen(
        command, cwd=ROOT, env=surroundings, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (blocks := blocks_of(runner.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    runner.send_signal(sign)
    _, error = runner.communicate(timeout=60)
    assert "Traceback" not in error
    while any(map(psutil.pid_exists, blocks)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    left = list(tmp_path.glob(f"{PREFIX}*"))
    if sign == signal.SIGKILL:  # what could not be cleared then is cleared by the next
        assert left
        code = "from bench.gate.versions import scratch\nwith scratch(): pass"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=surroundings, check=True)
    else:
        assert runner.returncode == 130
    assert not list(tmp_path.glob("mlr-*"))
    assert tempfile.gettempdir() != str(tmp_path)


SIDE = Side("a|b<script>", Path(), None, None, "0")


def verdict_of(*findings: Finding, faults: tuple[str, ...] = ()) -> Verdict:
    cases = [
        Judged(entry, found, list(faults), [])
        for entry, found in zip(SUITE, findings, strict=False)
    ]
    recorded = [
        {case.entry.name: {"log_ratio": 0.1, "new_s": 2e-5 + n * 1e-7, "old_s": 1.8e-5}}
        for n in range(3)
        for case in cases
    ]
    return Verdict(cases, [], [], None, False, 3, 12.0, recorded)


SLOW = Finding(SLOWER, 1.1, 1.08, 1.12, 0.03, 14)
OPEN = Finding(CANNOT_TELL, 1.01, None, None, None, 3)
FINE = Finding("not slower", 1.0, 0.99, 1.01, 0.03, 6)


def test_the_exit_status_is_the_worst_that_is_known() -> None:
    assert verdict_of(FINE).code == 0
    assert verdict_of(FINE, OPEN).code == 3
    assert verdict_of(OPEN, SLOW).code == 1
    assert verdict_of(FINE, faults=("bytes at peak: 2 instead of 1",)).code == 1
    noisy = verdict_of(SLOW)
    noisy.noisy = True
    assert noisy.code == 4
    noisy.vanished = ["matmul"]  # no noise explains that
    assert noisy.code == 1
    calm = verdict_of(FINE)
    calm.noisy = True
    assert calm.code == 0


def test_the_outputs_say_what_failed_and_what_is_open(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = verdict_of(SLOW, OPEN, FINE)
    suite = ElementTree.fromstring(as_junit(verdict))
    assert [len(suite.findall(f"testcase/{tag}")) for tag in ("failure", "error")] == [1, 1]
    assert "1.100 (1.080–1.120)" in as_junit(verdict)
    levels = [line.partition(" ")[0] for line in github_annotations(verdict)]
    assert levels == ["::error", "::warning"]
    text = as_markdown(verdict, SIDE, SIDE)
    assert "<script>" not in text
    assert "### Gate: slower in 1 of 3 cases, cannot tell in 1, not slower in 1; 3 blocks" in text
    assert "| detectable | blocks |" in text
    assert "*detectable*: the smallest slow-down" in text
    monkeypatch.setenv("COLUMNS", "80")
    print_verdict(verdict)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "matmul-100x64x32" in shown
    assert "cpu-float64" in shown


def test_what_was_not_decided_or_not_timed_is_green_nowhere() -> None:
    entries = [case.entry for case in verdict_of(OPEN, FINE, FINE, FINE).cases]
    cases = [
        Judged(entries[0], OPEN, [], []),
        Judged(entries[1], None, [], ["was wrong: error 3"]),
        Judged(entries[2], None, [], ["allowed: wrong: error 3"], allowed=True),
        Judged(entries[3], FINE, [], []),
    ]
    suite = ElementTree.fromstring(as_junit(Verdict(cases, [], [], None, False, 3, 12.0, [])))
    said = {case.get("name"): [(one.tag, one.get("message")) for one in case] for case in suite}
    assert said[entries[0].name] == [("error", "cannot tell: 1.010")]
    assert said[entries[1].name] == [("error", "not timed: was wrong: error 3")]
    assert said[entries[2].name] == [("skipped", "not timed: allowed: wrong: error 3")]
    assert said[entries[3].name] == []
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == ["4", "0", "2", "1"]


def test_the_headline_does_not_stutter_and_counts_in_plain_english() -> None:
    assert headline(verdict_of(OPEN, OPEN)) == "cannot tell in 2 of 2 cases; 3 blocks, 12 s"
    assert headline(verdict_of(FINE)) == "no slow-down: not slower in 1 of 1 case; 3 blocks, 12 s"
    gone = verdict_of(FINE, SLOW)
    gone.vanished, gone.blocks = ["matmul"], 1
    said = "1 kernel gone, slower in 1 of 2 cases, not slower in 1; 1 block, 12 s"
    assert headline(gone) == said
    noisy = verdict_of(SLOW)
    noisy.noisy = True
    assert headline(noisy).startswith("the machine is too noisy for a verdict: slower in 1 of 1")


def test_a_job_on_github_gets_the_verdict_as_its_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    list(write_verdict(verdict_of(SLOW), SIDE, SIDE, tmp_path / "out"))
    assert summary.read_text() == "before\n" + (tmp_path / "out" / "gate.md").read_text()
    assert capsys.readouterr().out.startswith("::error title=gate::")


def test_both_sides_are_files_that_the_plugin_compares(tmp_path: Path) -> None:
    for which in ("old", "new"):
        text = json.dumps(as_benchmarks(verdict_of(SLOW, FINE), which, SIDE))
        (tmp_path / f"{which}.json").write_text(text)
    command = [sys.executable, "-m", "pytest_benchmark", "compare"]
    paths = [str(tmp_path / f"{which}.json") for which in ("old", "new")]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "matmul-cpu-float64-100x64x32" in done.stdout
