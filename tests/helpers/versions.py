"""Copies of the package, as versions that a gate compares, loaded beside the harness's own."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paths import ROOT


def copy_package(folder: Path) -> Path:
    """Copy the package into a folder, and return the folder."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "mlr", folder / "mlr", ignore=ignored)
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
