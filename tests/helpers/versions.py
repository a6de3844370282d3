"""Copies of the package, as versions that a gate compares, loaded beside the harness's own."""

import compileall
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paths import ROOT

from bench.gate.imports import FINDER, REFUSED
from mlr import KERNELS, OPERATIONS
from mlr.kernel_files import FILES

# A kernel of a user's, one that the head adds, and one that ends the process that times it.
KERNEL_FILE = """
import os
from mlr import Gradient, kernel
COST = dict(flops=lambda m, n, o, s: 2 * m * n * o, bytes_moved=lambda m, n, o, s: m * n * s,
            workspace=lambda m, n, o, s: 0)
calls = 0
@kernel(operation="gradient", **COST)
def {name}(x, delta):
    return Gradient(x.T{how} @ delta, delta.sum(0))
@kernel(operation="gradient", **COST)
def dying(x, delta):
    global calls
    calls += 1  # a few in its verification, and many while it is timed
    if {dies} and calls > 100:
        os.abort()
    return Gradient(x.T @ delta, delta.sum(0))
"""
MINE = KERNEL_FILE.format(name="mine", how="", dies=False)
WORSE = KERNEL_FILE.format(name="mine", how=".contiguous()", dies=True)


def copy_package(folder: Path) -> Path:
    """Copy the package into a folder, with what Python compiled of it, and return the folder."""
    compileall.compile_dir(ROOT / "mlr", quiet=2)  # it does so once; a copy that changes is anew
    shutil.copytree(ROOT / "mlr", folder / "mlr")
    return folder


def commit(root: Path, message: str) -> None:
    """Commit all of a folder, a git repository from then on."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", message]):
        subprocess.run(["git", *command], cwd=root, check=True, capture_output=True)


@contextmanager
def forgetting_versions() -> Iterator[None]:
    """Forget afterwards what was loaded under a name that begins with `mlr_test`."""
    try:
        yield
    finally:
        for name in [one for one in sys.modules if one.startswith("mlr_test")]:
            del sys.modules[name]


@contextmanager
def forgetting_packages(*names: str) -> Iterator[None]:
    """Forget afterwards the versions of a package `theirs`, and what kernel files registered."""
    gone = {"theirs", *names, "mlr_base", "mlr_head", "mlr_control"}
    held = [(table, dict(table)) for table in (KERNELS, OPERATIONS, FILES)]
    path, packages = [*sys.path], FINDER.packages
    try:
        yield
    finally:
        for version in [*FINDER.active]:
            version.deactivate()
        for name in [one for one in sys.modules if one.partition(".")[0] in gone]:
            del sys.modules[name]
        for table, before in held:
            table.clear()
            table.update(before)
        sys.path[:], FINDER.packages = path, packages
        REFUSED.clear()
        FINDER.found.clear()
