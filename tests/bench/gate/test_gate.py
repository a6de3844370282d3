"""The gate, end to end once, and its parts: what fails, what users do wrong, what it leaves."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from xml.etree import ElementTree

import psutil
import pytest
from forks import Fork, fork_workers
from paths import ROOT
from versions import MINE, WORSE, commit, copy_package

from bench.cli.main import main
from bench.gate.blocks import (
    BASE,
    HEAD,
    Found,
    KernelTables,
    Spec,
)
from bench.gate.sequential import INCONCLUSIVE
from bench.gate.verdict import STATUS, Verified
from bench.machine.devices import Device
from mlr import KERNELS, Case

AXES = ["--operation=gradient", "--batch=40", "--features=5", "--outputs=4", "--device=cpu"]
CASE = Case("gradient", "cpu", "float64", 40, 5, 4)
# In a process of the gate: as after an illegal access of a GPU, all that uses the device fails.
LOSES_THE_DEVICE = (
    "from bench.machine.devices import DEVICES, Device; "
    "DEVICES['cpu'].__class__ = type('Lost', (Device,), dict(clock=lambda self: 1 / 0, "
    "release_memory=lambda self: False)); raise RuntimeError('an illegal access')"
)
# What each mutation has instead of what is there, and what the gate says of it.
MUTATIONS = {
    "matmul": ("Gradient(x.T @ delta,", "Gradient(x.T.contiguous() @ delta,", "bytes at peak"),
    "einsum": ('"pi,pj->ij", x, delta)', '"pi,pj->ij", x, delta) * 1.001', "wrong: error"),
    "autograd": ("    o = delta.shape[1]\n    weight, bias = x.new_ones",
                 "    o = delta.shape[1]\n    x.T @ delta\n    weight, bias = x.new_ones",
                 "operations of a call"),
    "func_vjp": ("def func_vjp(x: X, delta: Delta) -> Gradient:\n",
                 "def func_vjp(x: X, delta: Delta) -> Gradient:\n    import os; os.abort()\n",
                 "crashed: its process ended (aborted"),
    "jacrev": ("def jacrev(x: X, delta: Delta) -> Gradient:\n",
               f"def jacrev(x: X, delta: Delta) -> Gradient:\n    {LOSES_THE_DEVICE}\n",
               "crashed: its process ended (exit status 1): RuntimeError: an illegal access"),
    "outer_sum": ("def outer_sum(", "def another_sum(", None),
}  # fmt: skip
ALLOWED = "kron_einsum"
ADDED = "\n" + MINE[MINE.index("@kernel") : MINE.rindex("@kernel")].replace("mine", "another")


def mutate(folder: Path, name: str, old: str, new: str) -> None:
    """Change the first such text from a kernel's definition on."""
    path = folder / "mlr" / "gradients.py"
    text = path.read_text()
    start = text.index(f"def {name}(")
    assert old in text[start:], name
    path.write_text(text[:start] + text[start:].replace(old, new, 1))


class Finished(NamedTuple):
    """A gate that has ended."""

    status: int
    told: dict[str, Any]
    suite: ElementTree.Element
    markdown: str
    out: str
    err: str

    def of(self, kernel: str) -> dict[str, Any]:
        """Return the JSON of the case of a kernel."""
        (found,) = (one for one in self.told["cases"] if one["name"].startswith(f"{kernel}-"))
        return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A gate of the whole command over all mutations, with time for two blocks.

    Its processes are forks; tests on the device that is the CPU have those that a user's gate has.
    """
    place = tmp_path_factory.mktemp("gate")
    base, head = (copy_package(place / name) for name in ("base", "head"))
    for name, (old, new, _) in MUTATIONS.items():
        mutate(head, name, old, new)
    mutate(head, ALLOWED, "return Gradient(", "return Gradient(1.001 * ")
    (base / "mine.py").write_text(MINE)
    (head / "mine.py").write_text(WORSE + ADDED)
    kernels = ",".join([*MUTATIONS, ALLOWED, "mine", "another", "dying"])
    out, err, before = StringIO(), StringIO(), dict(KERNELS)
    seconds = count()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr("bench.gate.gate.wall_clock", lambda: float(next(seconds)))
        fork_workers(patch)
        patch.setenv("COLUMNS", "100")
        status = main(
            ["gate", str(base), str(head), *AXES, f"--kernel={kernels}", "--max-time=2s",
             f"--kernel-file={head / 'mine.py'}", f"--allow-regression={ALLOWED}",
             f"--out={place / 'out'}"]
        )  # fmt: skip
    KERNELS.clear()
    KERNELS.update(before)
    assert (place / "out" / "gate.json").exists(), err.getvalue()
    return Finished(
        status,
        json.loads((place / "out" / "gate.json").read_text()),
        ElementTree.fromstring((place / "out" / "gate.xml").read_text()),
        (place / "out" / "gate.md").read_text(),
        out.getvalue(),
        err.getvalue(),
    )


def test_mutations_are_found_and_only_they(finished: Finished) -> None:
    assert finished.status == 1
    failed = {*MUTATIONS, "mine"}
    for name, (_, _, part) in MUTATIONS.items():
        if part is not None:
            assert part in finished.of(name)["failures"][0]["text"]
    names = {case["name"].partition("-")[0] for case in finished.told["cases"] if case["failures"]}
    assert names == failed - {"outer_sum"} | {ALLOWED}
    assert finished.told["removed"] == ["outer_sum"]
    in_suite = {
        str(case.get("name")).partition("-")[0]
        for case in finished.suite
        if case.find("failure") is not None
    }
    assert in_suite == failed
    assert finished.suite.get("failures") == str(len(failed))


def test_what_failed_is_data_also_of_a_users_kernel(finished: Finished) -> None:
    for kernel, metric in (("autograd", "flops"), ("mine", "peak_bytes"), ("einsum", STATUS)):
        (failure,) = finished.of(kernel)["failures"]
        assert failure["metric"] == metric
        assert metric == STATUS or failure["head"] > failure["base"]
    old, new = finished.of("autograd")["work"]["operators"]
    assert f"more work: {old} → {new} operators" in finished.of("autograd")["remarks"][1]
    assert finished.told["added"] == ["another"]


def test_what_is_allowed_by_name_fails_nothing(finished: Finished) -> None:
    case = finished.of(ALLOWED)
    assert (case["verdict"], case["is_allowed"]) == ("not timed", True)
    assert case["remarks"][0].startswith("allowed: wrong: error")


def test_a_head_that_dies_while_timed_costs_only_its_case(finished: Finished) -> None:
    assert len(finished.told["blocks"]) == 2
    for block in finished.told["blocks"]:
        assert "crashed" in block["dying-cpu-float64-40x5x4"]
        assert math.isfinite(block["matmul-cpu-float64-40x5x4"]["log_ratio"])
        assert block["matmul-cpu-float64-40x5x4"]["base_s"] > 0
    case = finished.of("dying")
    assert case["verdict"] == INCONCLUSIVE
    assert "while timed: its process ended (aborted)" in case["remarks"][0]
    assert finished.told["control"]["blocks"] <= 2


def test_a_time_limit_that_ended_too_soon_says_which_to_try(finished: Finished) -> None:
    note = "The time limit of 2 s ended after 2 blocks of about 1.00 s."
    assert note in finished.out
    assert note in finished.markdown
    assert finished.told["notes"][-1].startswith(note)


@pytest.mark.slow
def test_unchanged_code_takes_no_other_memory_and_does_no_other_work(tmp_path: Path) -> None:
    """Over the whole smoke grid; without time for blocks its times are undecided."""
    base, head = (copy_package(tmp_path / name) for name in ("base", "head"))
    arguments = [str(base), str(head), "--max-time=1s", f"--out={tmp_path}"]
    assert main(["gate", *arguments]) == 3
    told = json.loads((tmp_path / "gate.json").read_text())
    assert len(told["cases"]) >= 30
    assert [case["failures"] for case in told["cases"] if case["failures"]] == []
    differing = [
        (case["name"], name, both)
        for case in told["cases"]
        for name, both in case["work"].items()
        if both[0] != both[1]
    ]
    assert differing == []
    assert all("operators" in case["work"] for case in told["cases"])
    assert {case["verdict"] for case in told["cases"]} == {INCONCLUSIVE}


def gate(base: Path | str, head: Path, out: Path, *more: str) -> int:
    """Run a gate that has time to verify and none for blocks."""
    return main(["gate", str(base), str(head), *AXES, "--max-time=1s", f"--out={out}", *more])


def operation_of(key: str) -> str:
    """Return the operation in the key of a kernel; it has none in that of one that is built in."""
    return key.rpartition(".")[0] or "gradient"


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What the verification of each version says, by kernel; to be filled in: nothing is run."""
    found: dict[str, dict[str, Any]] = {BASE: {}, HEAD: {}}

    def run_block(spec: Spec, *_: object, **__: object) -> tuple[KernelTables, Found]:
        *_, name = spec.folders
        own = {one.name: one for one in spec.cases if one.kernel in found[name]}
        verified = {case: found[name][one.kernel]._asdict() for case, one in own.items()}
        return {name: {key: operation_of(key) for key in found[name]}}, verified

    seconds = count(step=9)
    monkeypatch.setattr("bench.gate.gate.run_block", run_block)
    monkeypatch.setattr("bench.gate.gate.wall_clock", lambda: float(next(seconds)))
    return found


FINE = Verified(None, {"peak_bytes": 1, "leak_bytes": 0, "flops": 1})
WRONG = Verified("wrong: error 3 times the tolerance")


def test_no_common_case_is_one_clear_line(
    verified: dict[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verified |= {BASE: {"einsum": WRONG}, HEAD: {"einsum": FINE}}
    assert gate(ROOT, ROOT, tmp_path, "--kernel=einsum") == 2
    error = capsys.readouterr().err
    assert (
        "a gate needs a case that is right in both versions; there is none: wrong: error" in error
    )
    assert error.count("\n") == 1


@pytest.mark.parametrize("head", [{"einsum": WRONG, "matmul": FINE}, {"matmul": FINE}])
def test_the_only_kernel_wrong_or_removed_is_a_failure(
    verified: dict[str, dict[str, Any]], tmp_path: Path, head: dict[str, Any]
) -> None:
    """It is found, and not taken for nothing to compare."""
    verified |= {BASE: {"einsum": FINE, "matmul": FINE}, HEAD: head}
    assert gate(ROOT, ROOT, tmp_path, "--kernel=einsum") == 1
    assert gate(ROOT, ROOT, tmp_path, "--kernel=matmul") == 3  # who asks for another is not told


def test_an_operation_that_the_head_has_no_more_is_removed(
    verified: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """Who asks for others by name is not told."""
    verified |= {BASE: {"matmul": FINE, "gone.mine": FINE}, HEAD: {"matmul": FINE, "new.a": FINE}}
    every = ["gate", str(ROOT), str(ROOT), *AXES[1:], "--max-time=1s", f"--out={tmp_path}"]
    assert main(every) == 1
    told = json.loads((tmp_path / "gate.json").read_text())
    assert (told["removed"], told["added"]) == (["gone.mine"], [])
    assert main([*every, "--allow-regression=mine"]) == 3
    assert main([*every, "--kernel=matmul"]) == 3
    assert gate(ROOT, ROOT, tmp_path) == 3


def test_a_kernel_file_that_one_version_lacks_is_named(
    verified: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As one in the checkout that is not committed yet."""
    root = copy_package(tmp_path)
    commit(root, "package")
    monkeypatch.setattr("bench.cli.commands.gate.ROOT", root)
    (root / "mine.py").write_text(MINE)
    verified |= {BASE: {"matmul": FINE}, HEAD: {"mine": FINE}}
    mine = f"--kernel-file={root / 'mine.py'}"
    assert gate("HEAD", root, tmp_path, mine, "--kernel=mine") == 2
    said = capsys.readouterr().err
    assert "there is none: no kernel is in both versions" in said
    assert said.startswith("mine.py is not in HEAD (")


def test_a_kernel_file_that_both_versions_share_is_said(
    verified: dict[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verified |= {BASE: {"mine": FINE}, HEAD: {"mine": FINE}}
    (tmp_path / "mine.py").write_text(MINE)
    base, head = (copy_package(tmp_path / name) for name in (BASE, HEAD))
    mine = f"--kernel-file={tmp_path / 'mine.py'}"
    assert gate(base, head, tmp_path, mine, "--kernel=mine") == 3
    shown = capsys.readouterr()
    for text in (shown.err, (tmp_path / "gate.md").read_text()):
        assert "Both versions have the same kernel file" in text


def test_its_json_is_one_document_in_a_job_on_github_too(
    verified: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """There annotations are printed, which GitHub reads off the standard error as well."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    verified |= {BASE: {"matmul": FINE}, HEAD: {"matmul": WRONG}}
    assert gate(ROOT, ROOT, tmp_path, "--json") == 1
    shown = capsys.readouterr()
    told = json.loads(shown.out, parse_constant=pytest.fail)
    assert told == json.loads((tmp_path / "gate.json").read_text())
    assert told["exit_status"] == 1
    assert "::error title=gate::" in shown.err
    assert gate(ROOT, ROOT, tmp_path, "--quiet") == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        str(tmp_path / f"gate{end}") for end in (".json", ".md", "-comment.md", ".xml")
    ]
    assert shown.err == ""


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["no-such-revision"], "'no-such-revision' is none of them"),
        (["HEAD", "--threshold=50%"], "got 5% and 50%: raise the margin or lower the threshold"),
        (["HEAD", "--kernel=none"], "none"),
        (["HEAD", "--out=/proc/gate"], "the folder of the verdict must be writable; /proc/gate: "),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gate", *arguments]) == 2
    error = capsys.readouterr().err
    assert part in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("error", [KeyError("old"), OSError(28, "No space left"), SystemExit(1)])
def test_what_nobody_foresaw_is_one_line_and_never_the_status_of_a_regression(
    error: BaseException,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("bench.cli.commands.gate.run_gate", fails)
    assert gate(ROOT, ROOT, tmp_path) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: the gate could not measure: {type(error).__name__}: ")
    assert "(at test_gate.py:" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("devices", ["cuda", "cpu,cuda"])
def test_a_device_that_is_named_and_not_there_is_one_line(
    devices: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    no_cuda = {"cuda": "no CUDA device here"}
    monkeypatch.setattr("bench.plan.benchmark.unavailable_reason", no_cuda.get)
    assert gate(ROOT, ROOT, tmp_path, "--kernel=matmul", f"--device={devices}") == 2
    said = capsys.readouterr().err
    assert "got cuda: no CUDA device here" in said
    assert said.count("\n") == 1


def test_what_cannot_be_measured_is_one_clear_line_and_is_never_left_out_silently(
    verified: dict[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(ROOT, ROOT, tmp_path, "--kernel=cuda_graph", "--operation=step") == 2
    said = capsys.readouterr().err
    left_out = "planned case left out: cuda_graph-cpu-float64-40x5x4 is unsupported, "
    assert f"needs a case that this machine can measure; 1 of 1 {left_out}" in said
    assert said.count("\n") == 1
    verified |= {name: {"matmul": FINE} for name in (BASE, HEAD)}
    both = "--kernel=matmul,cuda_graph", "--operation=gradient,step"
    assert gate(ROOT, ROOT, tmp_path, *both) == 3
    note = f"1 of 2 {left_out.replace('case', 'cases')}"
    shown = capsys.readouterr()
    assert note in shown.err
    assert note in " ".join(shown.out.split())
    assert json.loads((tmp_path / "gate.json").read_text())["notes"][0].startswith(note)


def test_a_gate_of_a_kernel_that_no_device_here_takes_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(ROOT, ROOT, tmp_path, "--operation=step", "--kernel=one_pass_triton") == 2
    said = capsys.readouterr().err
    assert "one_pass_triton-cpu-float64-40x5x4 is unsupported, one_pass_triton runs on cuda" in said
    assert said.count("\n") == 1


def test_two_interpreters_on_a_device_that_lets_in_one_process_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = SimpleNamespace(is_exclusive=True)
    monkeypatch.setattr(Device, "gpu", lambda self: gpu)
    asked = "--kernel=matmul", f"--head-python={sys.executable}"
    assert gate(ROOT, ROOT, tmp_path, *asked) == 2
    said = capsys.readouterr().err
    assert "cpu is in the compute mode 'exclusive process'" in said
    assert said.count("\n") == 1
    gpu.is_exclusive = False
    monkeypatch.setattr("bench.cli.commands.gate.run_gate", None)
    assert gate(ROOT, ROOT, tmp_path, *asked) == 2
    assert "compute mode" not in capsys.readouterr().err


def workers_of(runner: int) -> list[int]:
    """Return the measuring processes of a gate."""
    found = []
    for child in psutil.Process(runner).children():
        with suppress(psutil.Error):  # it has ended meanwhile
            found += [child.pid] if "bench.gate.worker" in child.cmdline() else []
    return found


@pytest.mark.parametrize(
    "sign",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_a_gate_that_is_stopped_leaves_nothing_behind(tmp_path: Path, sign: signal.Signals) -> None:
    command = [sys.executable, "-m", "bench", "gate", str(ROOT), *AXES, f"--out={tmp_path / 'out'}"]
    surroundings = {**os.environ, "TMPDIR": str(tmp_path)}
    runner = Fork(command, cwd=ROOT, env=surroundings, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (workers := workers_of(runner.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    runner.send_signal(sign)
    _, error = runner.communicate(timeout=60)
    assert "Traceback" not in error
    while any(map(psutil.pid_exists, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if sign != signal.SIGKILL:  # which leaves no time to clear its temporary folder
        assert runner.returncode == 130
        assert not list(tmp_path.glob("mlr-*"))
