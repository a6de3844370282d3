"""What only Linux has is asked for in few places, and missed nowhere else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import HELPERS, ROOT

# What macOS lacks, as it stands in a source.
LINUX_ONLY = (
    *("/proc", "/sys/", "/dev/shm", "libcuda.so", "malloc_trim", "prctl", "sched_", "SCHED_"),
    *("epoll", "memfd_", "pidfd_", "eventfd", "posix_fadvise", "setns(", "unshare("),
    *("O_DIRECT", "F_SETPIPE_SZ", "os.splice", "getrandom"),
)
# What Windows lacks too has a library, or a place of its own.
ELSEWHERE = ("import fcntl", "import resource", "os.fork(", "os.nice(", "import pwd", "import grp")
ALLOWED = {
    "bench/machine/cores.py": {"/proc", "/sys/", "sched_"},
    "bench/machine/devices.py": {"libcuda.so"},
    "bench/machine/host.py": {"/proc", "/sys/", "malloc_trim"},
    "mlr/distributed/gloo.py": {"/proc", "sched_", "SCHED_"},
}
SOURCES = sorted(path for folder in ("mlr", "bench") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_only_linux_has_is_in_its_places(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), set())
    for forbidden in {*LINUX_ONLY, *ELSEWHERE} - allowed:
        assert forbidden not in text, forbidden


# All that is not ours is imported first, as on the system that this is.
WITHOUT = """
import os, sys, urllib.request
from pathlib import Path
import jinja2, llvmlite.binding, llvmlite.ir, matplotlib.pyplot, numpy, pandas, psutil
import pytest_benchmark.plugin, rich.console, rich.table, scipy.optimize, scipy.stats
import sklearn.datasets, torch.profiler, torch.distributed
import {places}, shortened

for name in dir(os):
    if name.lower().startswith(("sched_", "pidfd_", "memfd_", "eventfd", "posix_fadvise")):
        delattr(os, name)
sys.platform = "darwin"
moved = []
for module in ({places}):
    for name, value in vars(module).items():
        if isinstance(value, (str, Path)) and str(value).startswith(("/proc", "/sys/")):
            setattr(module, name, type(value)("/nowhere" + str(value)))
            moved.append(name)
assert len(moved) >= 6, moved
import bench.cli.main
import bench.run.runner, bench.run.plugin, bench.gate.gate, bench.scaling.measure, mlr.distributed
from mlr.distributed.gloo import let_others_run_first
let_others_run_first()
sys.exit(bench.cli.main.main(sys.argv[1:]))
"""


def test_the_plan_is_made_where_what_only_linux_has_is_missing() -> None:
    places = ", ".join(name.removesuffix(".py").replace("/", ".") for name in ALLOWED)
    plan = ("plan", "--operation=gradient", "--kernel=matmul,jacrev", "--batch=33", "--threads=all")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(places=places), *plan],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(HELPERS)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 benchmarks: 2 to run" in done.stdout
