"""The number of threads: each in processes of its own, whose libraries really have that many."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from bench.machine.cores import usable
from bench.machine.environment import pinned_environment
from bench.store.runs import load_frame

# A kernel that writes down what its process has.
TELLS = """
import json, os
from threadpoolctl import threadpool_info
import torch
from mlr import Gradient, kernel

def tell():
    pools = [(pool["user_api"], pool["num_threads"]) for pool in threadpool_info()]
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PJRT_NPROC")
    found = {"pid": os.getpid(), "torch": torch.get_num_threads(), "pools": pools}
    found |= {"environment": [os.environ.get(name) for name in names]}
    with open(os.environ["TOLD"], "a") as file:
        file.write(json.dumps(found) + "\\n")

told = []

@kernel(operation="gradient", flops=lambda m, n, o, s: 2 * m * n * o,
        bytes_moved=lambda m, n, o, s: (m * n + m * o + n * o + o) * s,
        workspace=lambda m, n, o, s: 0)
def tells(x, delta):
    if not told:
        told.append(tell())
    return Gradient(x.T @ delta, delta.sum(0))
"""
SIZES = ("--batch=40", "--features=5", "--outputs=4", "--device=cpu", "--kernel=tells,autograd")
needs_two = pytest.mark.skipif(usable()[1] < 2, reason="this process may use one processor only")


def measure(folder: Path, *arguments: str) -> tuple[str, list[dict[str, Any]]]:
    """Run a command on the kernel; return what it printed, and what each of its processes told."""
    (folder / "tells.py").write_text(TELLS)
    outside = {"TOLD": str(folder / "told"), "PYTHONPATH": str(ROOT), "PJRT_NPROC": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments, *SIZES, f"--kernel-file={folder / 'tells.py'}"],
        cwd=ROOT, capture_output=True, text=True, timeout=400, check=False,
        env={k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | outside,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (folder / "told").read_text().splitlines()
    return done.stdout, [json.loads(line) for line in lines]


def has_threads(told: dict[str, Any], count: int) -> bool:
    pools = {number for _, number in told["pools"]}
    return told["torch"] == count and pools == {count} and told["environment"] == [str(count)] * 4


@needs_two
@pytest.mark.parametrize("count", [1, 2])
def test_libraries_have_the_number_that_the_environment_of_a_process_says(count: int) -> None:
    code = (
        "import json, numpy, torch, threadpoolctl\n"
        "pools = [pool['num_threads'] for pool in threadpoolctl.threadpool_info()]\n"
        "print(json.dumps([torch.get_num_threads(), *pools]))"
    )
    command, env = [sys.executable, "-c", code], pinned_environment(os.environ, count)
    printed = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert set(json.loads(printed)) == {count}


WAITS_AWAKE = """
import numpy, torch
from bench.measure.side_effects import require_no_background_work
x, y = numpy.ones((4096, 256)), numpy.ones((256, 64))
require_no_background_work(lambda: x @ y)
"""


@needs_two
@pytest.mark.parametrize("is_pinned", [True, False])
def test_a_library_whose_threads_wait_awake_for_more_work_does_no_work(is_pinned: bool) -> None:
    """OpenBLAS's do so for 2^28 ticks of a clock, unless its environment says less."""
    env = pinned_environment(os.environ, 2)
    if not is_pinned:
        env.pop("OPENBLAS_THREAD_TIMEOUT", None)
    command = [sys.executable, "-c", WAITS_AWAKE]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


SPINS = """
import torch
from bench.measure.timing import background_cpu_usage
x = torch.ones(2048, 256)
usages = []
for _ in range(10):
    x @ x.T
    usages.append(background_cpu_usage(0.01))
print(min(usages))
"""


@needs_two
@pytest.mark.skipif(sys.platform != "linux", reason="torch has another OpenMP elsewhere")
def test_threads_of_openmp_are_asleep_when_the_next_slice_begins() -> None:
    """Else they hold up a kernel that has threads of its own and is timed in turns with torch."""
    command, env = [sys.executable, "-c", SPINS], pinned_environment(os.environ, 2)
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.3


@pytest.mark.slow
@needs_two
def test_each_number_of_threads_has_processes_of_its_own(tmp_path: Path) -> None:
    command = ("bench", "run", "--threads=2,1", "--processes=1", f"--out={tmp_path}")
    printed, told = measure(tmp_path, *command)
    assert len(told) == len({one["pid"] for one in told})
    # It is verified and timed with each; what was disturbed is timed once more.
    assert min(Counter(one["torch"] for one in told).values()) >= 2
    assert {one["torch"] for one in told} == {1, 2}
    assert all(has_threads(one, one["torch"]) for one in told)
    path = Path(printed.splitlines()[-1])
    run, frame = json.loads(path.read_text()), load_frame([path])
    assert sorted(frame["threads"]) == [1, 1, 2, 2]
    assert set(frame["status"]) == {"ok"}
    of_two = frame.loc[frame["fullname"].str.endswith("-2threads]"), "threads"]
    assert set(of_two) == {2}
    assert len(of_two) == 2
    assert run["settings"]["threads"] == [1, 2]
    assert set(run["machine"]["ceilings"]) == {"cpu, 1 thread", "cpu, 2 threads"}
    for known in run["machine"]["ceilings"].values():
        worst = known["worst"]
        assert 0 < known["dispatch_s"] <= worst["dispatch_s"]
        assert known["flops_per_s"]["float64"] >= worst["flops_per_s"]["float64"] > 0
    assert "gradient, cpu, float64, 1 thread\n" in printed
    assert "gradient, cpu, float64, 2 threads\n" in printed


@pytest.mark.slow
@needs_two
@pytest.mark.parametrize("count", [1, 2])
def test_a_session_of_pytest_has_one_number(tmp_path: Path, count: int) -> None:
    printed, (told,) = measure(tmp_path, "pytest", "bench", f"--threads={count}")
    assert has_threads(told, count)
    assert f"on cpu, {count} thread" in printed
    assert f"gradient, cpu, float64, {count} thread" in printed
