"""The benchmarks as a user runs them: real pytest processes, real files, kernels that misbehave."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import HELPERS, ROOT
from threadpoolctl import threadpool_info, threadpool_limits

from bench.cli.commands import plan
from bench.cli.main import main
from bench.machine.cores import usable
from bench.machine.environment import THREAD_VARIABLES
from bench.plan.selection import add_axes
from bench.run import plugin, runner
from bench.store.runs import load_frame, load_run
from bench.store.schema import Ceilings

SHORTENED = ("-p", "shortened")  # with HELPERS on Python's path
TINY = ("--grid=smoke", "--batch=7", "--features=3", "--outputs=2", "--device=cpu")

MISBEHAVING = """
import os
from bench.machine.devices import DEVICES, Device
from mlr import Gradient, kernel

costs = dict(
    flops=lambda m, n, o, s: m, bytes_moved=lambda m, n, o, s: m, workspace=lambda m, n, o, s: 0
)
seen = []

@kernel(operation="gradient", **costs)
def right(x, delta):
    return Gradient(x.T @ delta, delta.sum(0))

@kernel(operation="gradient", **costs)
def one_element_wrong(x, delta):
    weight = x.T @ delta
    weight[0, 0] += 1e-6
    return Gradient(weight, delta.sum(0))

@kernel(operation="gradient", **costs)
def remembers_its_first_answer(x, delta):
    if not seen:
        seen.append(Gradient(x.T @ delta, delta.sum(0)))
    return seen[0]

@kernel(operation="gradient", **costs)
def raises(x, delta):
    raise KeyError("no such thing\\nat all")

@kernel(operation="gradient", **costs)
def takes_a_terabyte(x, delta):
    x.new_empty(2**37).zero_()

@kernel(operation="gradient", **costs)
def aborts(x, delta):
    os.abort()

class Lost(Device):  # as a GPU is after an illegal access: every use of it fails, in this process
    def clock(self):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def release_memory(self):
        return False

@kernel(operation="gradient", **costs)
def loses_the_device(x, delta):
    DEVICES["cpu"].__class__ = Lost
    DEVICES["cpu"].clock()

@kernel(operation="gradient", **(costs | dict(workspace=lambda m, n, o, s: 2**50)))
def wants_a_petabyte(x, delta):
    return Gradient(x.T @ delta, delta.sum(0))

@kernel(operation="gradient", dtypes=("float32",), **costs)
def single_precision_only(x, delta):
    return Gradient(x.T @ delta, delta.sum(0))
"""
EXPECTED = {
    "right": ("ok", None),
    "one_element_wrong": ("wrong", "against the oracle"),
    "remembers_its_first_answer": ("wrong", "on other inputs"),
    "raises": ("crashed", "KeyError: 'no such thing"),
    "takes_a_terabyte": ("oom", "can't allocate memory"),
    "aborts": ("crashed", "its process ended: aborted"),
    "loses_the_device": ("crashed", "RuntimeError: CUDA error: an illegal memory access"),
    "wants_a_petabyte": ("infeasible", "1.00 PiB"),
    "single_precision_only": ("unsupported", "takes float32 only"),
    "autograd": ("ok", None),
}
ENDING = {"aborts", "loses_the_device"}  # they end their process


@pytest.fixture(scope="module")
def kernel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("user") / "mine.py"
    path.write_text(MISBEHAVING)
    return path


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "bench", "-p", "no:cacheprovider", *SHORTENED]
    storage = f"--benchmark-storage=file://{folder}/storage"
    return subprocess.run(
        [*command, *arguments, storage], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(HELPERS)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory, kernel_file: Path) -> dict[str, Any]:
    """One `pytest bench` in which some kernels are wrong, with its file and its output."""
    folder = tmp_path_factory.mktemp("single_line")
    kernels = ",".join(name for name in EXPECTED if name not in ENDING)
    done = run_pytest(
        folder,
        *TINY,
        f"--kernel-file={kernel_file}",
        f"--kernel={kernels}",
        f"--benchmark-json={folder / 'run.json'}",
        "--benchmark-autosave",
        "--benchmark-group-by=param:dtype",
        "--benchmark-columns=min,median",
    )
    return {"folder": folder, "done": done, "path": folder / "run.json"}


def test_a_wrong_kernel_fails_its_test_and_carries_no_time(plain_run: dict[str, Any]) -> None:
    done, run = plain_run["done"], json.loads(plain_run["path"].read_text())
    assert done.returncode == 1, done.stdout + done.stderr
    assert {entry["params"]["kernel"] for entry in run["benchmarks"]} == {"right", "autograd"}
    table = done.stdout[done.stdout.index("benchmark 'dtype=float64'") :]
    table = table[: table.index("Legend")]
    assert "right" in table
    assert "wrong" not in table
    assert "remembers" not in table


def test_every_planned_case_has_its_status(plain_run: dict[str, Any]) -> None:
    run = json.loads(plain_run["path"].read_text())
    found = {outcome["kernel"]: outcome for outcome in run["outcomes"]}
    assert set(found) == set(EXPECTED) - ENDING
    for name, outcome in found.items():
        status, reason = EXPECTED[name]
        assert outcome["status"] == status, name
        assert (reason is None) == (outcome["reason"] is None), name
        assert reason is None or reason in outcome["reason"], outcome["reason"]
        assert "\n" not in (outcome["reason"] or "")


def test_a_plain_run_is_a_run_file(plain_run: dict[str, Any]) -> None:
    frame = load_frame([plain_run["path"]])
    row = frame.set_index("kernel").loc["right"]
    assert row["peak_bytes"] == (3 * 2 + 2) * 8
    assert row["predicted_peak_bytes"] == row["peak_bytes"]
    assert 0 <= row["max_rel_error"] < 1e-15
    assert row["speedup"] > 0
    assert row["efficiency"] > 0
    assert row["rounds"] <= 1_000
    assert load_run(plain_run["path"]).settings["threads"] >= 1
    assert "UNSERIALIZABLE" not in plain_run["path"].read_text()  # parameters are plain


def test_pytest_benchmarks_own_tools_read_it(plain_run: dict[str, Any]) -> None:
    (saved,) = (plain_run["folder"] / "storage").rglob("*.json")
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(plain_run["path"]), str(saved)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "bench_kernel[gradient-right-cpu-float64-7x3x2]" in done.stdout


@pytest.mark.slow
def test_it_compares_with_a_saved_run(plain_run: dict[str, Any], kernel_file: Path) -> None:
    given = (*TINY, f"--kernel-file={kernel_file}", "--kernel=right,autograd")
    done = run_pytest(plain_run["folder"], *given, "--benchmark-compare")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Comparing against benchmarks from" in done.stdout + done.stderr


class Config:
    """As much of pytest's configuration as the plugin asks for."""

    def __init__(self, **options: Any) -> None:
        parser = argparse.ArgumentParser()
        add_axes(parser.add_argument)
        defaults = {"benchmark_json": None, "benchmark_disable": False}
        self.option = argparse.Namespace(**vars(parser.parse_args([])) | defaults | options)
        self.stash = pytest.Stash()

    def getoption(self, name: str, default: Any = None) -> Any:
        return getattr(self.option, name, default)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kernel": "matmull"}, "--kernel takes .*did you mean matmul"),
        ({"kernel": "kron_einsum", "operation": "step"}, "must leave a case to measure"),
        ({"benchmark_json": "/nowhere/run.json"}, "--benchmark-json needs a folder that can be"),
        ({"numprocesses": 2}, "one at a time; got -n"),
    ],
)
def test_a_mistake_ends_pytest_before_anything_is_collected(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(pytest.UsageError, match=said) as caught:
        plugin.pytest_configure(Config(**options))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(usable()[1] < 2, reason="this process may use one processor only")
def test_a_session_gives_every_library_its_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")
    try:
        plugin.pytest_configure(Config(threads="2"))  # type: ignore[arg-type]
        assert (
            {pool["num_threads"] for pool in threadpool_info()} == {torch.get_num_threads()} == {2}
        )
        assert {os.environ[name] for name in THREAD_VARIABLES} == {"2"}
    finally:
        torch.set_num_threads(1)
        threadpool_limits(1)


def test_run_stores_every_outcome_and_a_crash_costs_one_case(
    tmp_path: Path,
    kernel_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(runner, "MAX_RERUNS", 0)
    monkeypatch.setattr(runner, "_PYTEST", (*runner._PYTEST, *SHORTENED))
    monkeypatch.setenv("PYTHONPATH", str(HELPERS))
    kernels = f"--kernel={','.join(EXPECTED)}"
    out = f"--out={tmp_path}"
    arguments = ["run", *TINY, "--processes=1", f"--kernel-file={kernel_file}", kernels, out]
    assert main(arguments) == 1  # some are wrong
    (path,) = (tmp_path / "runs").rglob("*.json")
    lines = capsys.readouterr().out.splitlines()
    assert f"Stored {path}" in lines
    table = lines[: lines.index(next(line for line in lines if line.startswith("Answers")))]
    assert {line.split()[0] for line in table if line.startswith(" ")} == set(EXPECTED)
    for _, reason in EXPECTED.values():
        assert reason is None or any(reason in line for line in table)
    frame = load_frame([path]).set_index("kernel")
    assert set(frame.index) == set(EXPECTED)
    for name, (status, reason) in EXPECTED.items():
        assert frame.loc[name, "status"] == status, name
        assert reason is None or reason in frame.loc[name, "reason"]
    assert frame["median_s"].notna().sum() == 2
    for take in (t for entry in load_run(path).benchmarks for t in entry.samples):
        assert not take.model_extra  # nothing but the schema's columns, each once
        measured = take.model_dump(exclude={"slowdown"}).values()  # which is made of others
        floats = [value for value in measured if isinstance(value, float)]
        assert floats == [float(f"{value:.7g}") for value in floats] != []
    assert list(tmp_path.rglob("*")) == [tmp_path / "runs", path.parent, path]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--grid", "huge"], "--grid is one of headline, single, smoke, quick, full, tall"),
        (["run", "--dtype", "bfloat16", "--kernel", "matmul"], "matmul takes float32, float64 on"),
        (["run", "--kernel", "matmull"], "--kernel takes"),
        (["run", "--batch", "9:1:2"], "--batch takes a range"),
        (["run", *TINY, "--kernel", "matmul", "--out", "/proc/nowhere"], "must be writable"),
        (["plan", "--features", "0"], "--features takes sizes"),
        (["report", "/nowhere.json"], "/nowhere.json"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    "arguments", [[], ["measure"], ["run", "--gird", "smoke"], ["run", "--seed", "x"]]
)
def test_a_bad_command_line_is_one_line_and_exit_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


def test_plan_names_what_cannot_run_and_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "measure_ceilings", lambda _: Ceilings())
    arguments = ["--grid=smoke", "--operation=gradient", "--kernel=jacrev,matmul", "--batch=10^6"]
    assert main(["plan", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "infeasible" in shown
    assert "to run" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_run_of_which_nothing_can_run_is_not_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("--batch=10^6", "--features=64", "--outputs=64", "--device=cpu")
    assert main(["run", *sizes, "--kernel=jacrev", f"--out={tmp_path}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: a run needs a benchmark that can run here; none of 1 can")
    assert "jacrev: needs " in error
    assert not list(tmp_path.rglob("*.json*"))


def test_a_session_says_what_it_measures_and_what_it_found(tmp_path: Path) -> None:
    """Two kernels at two sizes are four tests; one of them is the README's, as it stands."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "my.py").write_text(re.findall(r"```python\n(# my\.py\n.*?)```", readme, re.S)[0])
    own = f"--kernel-file={tmp_path}/my.py"
    sizes = ("--batch=7,9", "--features=3", "--outputs=2", "--device=cpu")
    kernels = ["kron_einsum", "transposed"]
    flags = ("--benchmark-only", "--benchmark-min-rounds=7", "--benchmark-max-time=0.001")
    drawn = f"--benchmark-histogram={tmp_path}/drawn"
    done = run_pytest(tmp_path, own, f"--kernel={','.join(kernels)}", *sizes, drawn, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "collected 4 items" in done.stdout
    assert "4 benchmarks on cpu, 1 thread," in done.stdout
    assert "4 passed in" in done.stdout
    tables = re.findall(r"^(?:bench_| \w).*", done.stdout, re.MULTILINE)
    assert max(map(len, tables)) <= 80
    table = done.stdout[done.stdout.index("speedup ±95 %") :]
    lines = re.findall(r"^ (\w+) +[\d.,]+ \w+ +[\d.]+× +[\d.]+ \w+ +\S+ +ok", table, re.MULTILINE)
    assert sorted(lines) == sorted(kernels * 2)
    assert len(list(tmp_path.glob("drawn*.svg"))) == 2


def test_a_wrong_kernel_is_one_line_under_pytest(plain_run: dict[str, Any]) -> None:
    said = plain_run["done"].stdout
    assert "During handling" not in said
    assert re.search(r"^ one_element_wrong +– +– +– +– +wrong +\[\d+\]", said, re.MULTILINE)
    assert "takes float32 only" in said
