"""Operations of a user's own on all their ways: options, plan, measuring, run, gate, pytest."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paths import HELPERS, KERNEL_FILES, ROOT

from bench.cli.commands import plan
from bench.cli.main import main, make_parser
from bench.common.errors import UserError
from bench.measure.benchmark import kept_reason, measure_sample, verify
from bench.measure.timing import PhaseTimer, repeats_of, time_batch
from bench.plan import selection
from bench.plan.benchmark import Benchmark, Outcome, cases, planned, predict
from bench.plan.grid import GRIDS, Grid
from bench.plan.selection import Selection
from bench.run.aggregate import summarise
from bench.store.runs import load_run
from bench.store.schema import Ceilings
from mlr import KERNELS, OPERATIONS, Case, load_kernels

CEILINGS = Ceilings(
    dispatch_s=1e-9, bandwidth_bytes_per_s=[[2**30, 1e12]], flops_per_s={"float32": 1e13}
)
# The operation of each file, its axes as options, and which costs of its baseline are declared.
FILES: dict[str, tuple[str, dict[str, int], set[str]]] = {
    "softmax": (
        "softmax_cross_entropy_backward",
        {"batch": 64, "classes": 10},
        {"bytes_moved", "least_flops", "least_bytes", "input_bytes"},
    ),
    "momentum": (
        "momentum_step",
        {"numbers": 1_000},
        {"bytes_moved", "least_flops", "least_bytes", "input_bytes"},
    ),
    "attention": (
        "attention_backward",
        {"batch": 4, "length": 16, "head-size": 8},
        {"input_bytes"},
    ),
    "norms": ("lengths_of_rows", {"count": 50, "length": 3}, set()),
}
COSTS = ("predicted_peak_bytes", "flops", "bytes_moved", "least_flops", "least_bytes",
         "input_bytes")  # fmt: skip


def options(name: str) -> list[str]:
    """Return the options of a file and of its least sizes."""
    sizes = [f"--{option}={size}" for option, size in FILES[name][1].items()]
    return [f"--kernel-file={KERNEL_FILES / name}.py", "--device=cpu", *sizes]


def chosen(*arguments: str) -> Selection:
    """Return what a command line selects."""
    given = ["plan", "--device=cpu", *arguments]
    return Selection.from_args(make_parser("plan", given).parse_args(given))


def file_of(name: str) -> str:
    return f"--kernel-file={KERNEL_FILES / name}.py"


def test_it_has_the_sizes_of_its_axes_in_the_dtypes_of_the_grid() -> None:
    found = cases(chosen(file_of("softmax"), "--grid=full"))
    assert {case.operation for case in found} == {"softmax_cross_entropy_backward"}
    sizes = [(m, c) for m in (64, 4_096) for c in (10, 1_000)]
    assert [case.sizes for case in found] == 2 * sizes
    assert [case.dtype for case in found] == ["float32"] * 4 + ["float64"] * 4
    assert {entry.kernel.key for entry in planned(chosen(file_of("softmax")))} == {
        "softmax_cross_entropy_backward.autograd",
        "softmax_cross_entropy_backward.by_hand",
    }


def test_its_axes_are_options() -> None:
    given = chosen(file_of("attention"), "--head-size=2^3:2^5:2", "--length=16,32", "--batch=1")
    assert given.grid == "single"
    assert given.sizes == {"head-size": (8, 16, 32), "length": (16, 32), "batch": (1,)}
    assert [case.sizes for case in cases(given)] == [
        (1, length, head) for length in (16, 32) for head in (8, 16, 32)
    ]
    assert "--head-size=8,16,32" in given.as_arguments()
    again = chosen(*given.as_arguments())
    assert (again.sizes, cases(again)) == (given.sizes, cases(given))
    with pytest.raises(UserError, match=r"--head-size takes sizes from 1 .*; got 'eight'"):
        chosen(file_of("attention"), "--head-size=eight")


def test_a_size_of_an_axis_that_it_has_not_is_refused() -> None:
    for given in (["--features=6"], ["--outputs=3", "--batch=64"]):
        with pytest.raises(UserError, match=r"softmax\w+ has --batch, --classes; got --\w+: leave"):
            cases(chosen(file_of("softmax"), *given))
    both = "--operation=gradient,softmax_cross_entropy_backward"
    with pytest.raises(UserError, match="gradient has --batch, --features, --outputs; got --class"):
        cases(chosen(file_of("softmax"), both, "--classes=10"))
    found = cases(chosen(file_of("softmax"), both, "--batch=64"))
    assert {case.operation for case in found} == {*both.removeprefix("--operation=").split(",")}


def test_an_option_is_known_only_with_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert [main_status("plan", "--classes=10"), main_status("plan", "--kernel-file")] == [2, 2]
    said = capsys.readouterr().err
    assert "unrecognized arguments: --classes=10" in said
    assert "--kernel-file: expected one argument" in said
    assert said.count("\n") == 2
    assert main_status("run", file_of("attention"), "--help") == 0
    assert "--head-size" in capsys.readouterr().out


def main_status(*arguments: str) -> int:
    """Return the exit status of a command, which its parser may raise."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return int(str(ended.code))


EXTENDING = """
from mlr import Gradient, kernel

@kernel(operation="gradient")
def mine(x, delta):
    return Gradient(x.T @ delta, delta.sum(0))
"""


def test_what_a_file_declares_and_what_it_extends_is_run(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(EXTENDING)
    every = {"gradient", "step", "fit"}
    assert {one.operation for one in cases(chosen(f"--kernel-file={path}"))} == every
    path = tmp_path / "more.py"
    text = (KERNEL_FILES / "softmax.py").read_text()
    path.write_text(text.replace("_backward", "_twice") + EXTENDING.replace("mine", "another"))
    found = {one.operation for one in cases(chosen(f"--kernel-file={path}"))}
    assert found == {"gradient", "softmax_cross_entropy_twice"}
    named = chosen(f"--kernel-file={path}", "--operation=step")
    assert {one.operation for one in cases(named)} == {"step"}


def test_a_grid_may_name_files(monkeypatch: pytest.MonkeyPatch) -> None:
    files = ("../tests/kernel_files/softmax.py", "../tests/kernel_files/norms.py")
    grid = Grid.model_validate({"kernel_files": files, "block": [{"dtypes": ("float32",)}]})
    monkeypatch.setitem(GRIDS, "examples", grid)
    given = chosen("--grid=examples", "--batch=7", "--operation=softmax_cross_entropy_backward")
    assert [case.sizes for case in cases(given)] == [(7, 10), (7, 1_000)]
    assert {one.operation for one in cases(chosen("--grid=examples"))} == {
        "softmax_cross_entropy_backward",
        "lengths_of_rows",
    }
    assert [path.name for path in given.kernel_files()] == ["softmax.py", "norms.py"]
    assert main_status("plan", "--grid=examples", "--classes=0") == 2


TAKEN = {
    "out": ("run", "conflicting option string: --out; rename the axis"),
    "equivalence_margin": ("gate", "--equivalence-margin; rename the axis"),
    "grid": ("plan", "grid of operation own would be taken for another thing of that name"),
    "median_s": ("plan", "median_s of operation own would be taken for another thing"),
    "benchmark": ("plan", "benchmark of operation own would be taken for another thing"),
    "help": ("plan", "--help is another of this command; rename the axis"),
    "in_features": ("plan", "in_features of operation own would be taken for the axis features"),
}


@pytest.mark.parametrize("axis", TAKEN)
def test_an_axis_of_a_name_that_is_taken_is_one_line(
    axis: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, (command, part) = tmp_path / "mine.py", TAKEN[axis]
    text = (KERNEL_FILES / "norms.py").read_text().replace("lengths_of_rows", "own")
    path.write_text(text.replace('"count"', '"features"').replace('"length"', f'"{axis}"'))
    assert main_status(command, *(["HEAD"] if command == "gate" else []),
                       f"--kernel-file={path}") == 2  # fmt: skip
    said = capsys.readouterr().err
    assert part in said
    assert said.count("\n") == 1


def test_an_axis_shares_the_option_of_another_operations(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    text = (KERNEL_FILES / "norms.py").read_text().replace("lengths_of_rows", "own")
    path.write_text(text.replace('"length"', '"features"'))
    found = cases(chosen(f"--kernel-file={path}", "--features=5", "--count=7"))
    assert [case.by_axis for case in found] == [{"count": 7, "features": 5}]


def test_a_file_that_fails_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text("import torch\n1 / 0\n")
    for command in (["run"], ["plan"], ["gate", "HEAD"]):
        assert main_status(*command, f"--kernel-file={tmp_path / 'mine.py'}", "--classes=3") == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "mine.py:2: ZeroDivisionError" in said


@pytest.mark.parametrize("name", FILES)
def test_it_is_planned(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "measure_ceilings", lambda device: CEILINGS)
    assert main(["plan", *options(name)]) == 0
    shown = capsys.readouterr().out
    assert "2 to run" in shown
    assert FILES[name][0] in shown
    assert "not declared" in shown
    assert "nan" not in shown


def timer(call: Callable[[], Any], about_s: float) -> dict[str, Any]:
    """Time as many calls as let every kernel begin to cheat."""
    calls = max(500 if about_s < 0.001 else 1, repeats_of(about_s))
    seconds = [time_batch(call, calls, "cpu").seconds for _ in range(5)]
    return {"median_s": statistics.median(seconds), "rounds": len(seconds)}


def measured(key: str, *sizes: int) -> tuple[Outcome, dict[str, Any]]:
    """Verify a kernel and time it in this process; return what became of it and its columns."""
    kernel, sample = KERNELS[key], dict[str, Any]()
    case = Case(kernel.operation, "cpu", "float32", *(sizes or least(kernel.operation)))
    outcome = predict(Benchmark(kernel, case), CEILINGS, 1.0)
    with kept_reason(outcome):
        verify(Benchmark(kernel, case), outcome, CEILINGS, PhaseTimer())
        sample = measure_sample(Benchmark(kernel, case), timer, PhaseTimer(), 1)
    return outcome, summarise(outcome.columns(), [sample], None) if sample else {}


def least(operation: str) -> tuple[int, ...]:
    return OPERATIONS[operation].least_sizes


@pytest.mark.parametrize("name", FILES)
def test_its_kernels_are_measured_as_built_in_ones_are(name: str) -> None:
    _, sizes, declared = FILES[name]
    baseline, other = load_kernels(KERNEL_FILES / f"{name}.py")
    for key in (baseline, other):
        outcome, columns = measured(key)
        assert outcome.status == "ok", outcome.reason
        assert list(outcome.sizes.values()) == list(sizes.values())
        assert outcome.tolerance_of == ("bound" if name == "norms" else "baseline")
        assert columns["peak_bytes"] >= 0
        assert columns["max_rel_error"] < 1e-5
        assert columns["cold_s"] > 0
        is_bound = {"least_flops", "least_bytes"} <= declared
        assert ((columns.get("roofline_s") or 0) > 0) == is_bound
        assert not any("formula" in one or "leaks" in one for one in columns["warnings"])
        if key == baseline:
            found = {cost for cost in COSTS if getattr(outcome, cost) is not None}
            assert found == declared
        else:
            assert columns["speedup"] > 0


CAUGHT = {
    "softmax_backward.wrong_in_one_element": "against the oracle",
    "softmax_backward.forgets_the_mean": "against the oracle",
    "softmax_backward.computes_in_float16": "against the oracle",
    "softmax_backward.keeps_by_identity": "on other inputs",
    "softmax_backward.keeps_by_content": "",
    "softmax_backward.writes_to_its_input": "its input z",
    "softmax_backward.returns_its_input": "its input y",
    "softmax_backward.computes_at_bind_time": "on other inputs",
    "descent.has_another_rate": "against the oracle",
    "descent.steps_once": "against the oracle",
}


@pytest.mark.parametrize("key", [*CAUGHT, "softmax_backward.by_hand", "descent.in_place"])
def test_a_kernel_of_it_that_is_wrong_or_cheats_ends_wrong(key: str) -> None:
    load_kernels(KERNEL_FILES / "cheating.py")
    outcome, columns = measured(key)
    if key in CAUGHT:
        assert outcome.status == "wrong"
        assert CAUGHT[key] in str(outcome.reason)
        assert not columns
    else:
        assert outcome.status == "ok", outcome.reason


def test_a_formula_that_gives_no_cost_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    text = (KERNEL_FILES / "softmax.py").read_text()
    path.write_text(text.replace("6 * m * c", "6 * m - c"))
    load_kernels(path)
    kernel = KERNELS["softmax_cross_entropy_backward.by_hand"]
    with pytest.raises(UserError, match=r"^flops of kernel by_hand must be .*gives -616 .*64x1000"):
        predict(Benchmark(kernel, Case(kernel.operation, "cpu", "float32", 64, 1_000)))


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip


@pytest.mark.slow  # what is run in it is measured above
@pytest.mark.parametrize("name", FILES)
def test_it_is_run_in_processes(name: str, tmp_path: Path) -> None:
    done = command("-m", "bench", "run", *options(name), "--grid=smoke", f"--out={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    run = load_run(Path(done.stdout.splitlines()[-1]))
    assert len(run.benchmarks) == 2
    for one in run.benchmarks:
        extra = one.extra_info
        assert extra.operation == FILES[name][0]
        assert len(one.samples) >= 2  # more, where the machine was busy meanwhile
        assert list(extra.sizes.values()) == list(FILES[name][1].values())
        assert extra.speedup > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_pytest_measures_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    run = ("-m", "pytest", "bench", "-p", "no:cacheprovider", f"--benchmark-json={path}")
    done = command(*run, *options(name))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(path.read_text())
    axes = {option.replace("-", "_"): size for option, size in FILES[name][1].items()}
    assert [one["sizes"] for one in found["outcomes"]] == [axes, axes]
    assert all(axes.items() <= one["params"].items() for one in found["benchmarks"])
    assert FILES[name][0] in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_the_gate_finds_it_unchanged(name: str, tmp_path: Path) -> None:
    """After one block: nothing exact differs, and no time is decided."""
    gate = str(HELPERS / "short_gate.py")
    done = command(gate, str(ROOT), str(ROOT), *options(name), f"--out={tmp_path}")
    assert done.returncode in (3, 4), done.stdout + done.stderr
    verdict = json.loads((tmp_path / "gate.json").read_text())
    assert len(verdict["cases"]) == 2
    for case in verdict["cases"]:
        assert case["verdict"] == "inconclusive"
        assert not case["failures"]
        assert case["name"].startswith(f"{FILES[name][0]}.")


@pytest.mark.slow
def test_pytest_says_what_is_wrong_with_a_file_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import torch\n1 / 0\n")
    run = ("-m", "pytest", "bench", "-p", "no:cacheprovider")
    done = command(*run, f"--kernel-file={tmp_path / 'mine.py'}", "--classes=3")
    assert done.returncode == 4
    assert "mine.py:2: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_options_of_axes_need_no_torch_until_a_file_is_named() -> None:
    code = "import sys; from bench.cli.main import make_parser; from bench.plan.selection import *;"
    code += "import argparse; add_axes(argparse.ArgumentParser().add_argument);"
    done = command("-c", f"{code} print('torch' in sys.modules, 'mlr' in sys.modules)")
    assert done.stdout.split() == ["False", "False"], done.stderr
    assert selection.option_of("in_features") == "features"
