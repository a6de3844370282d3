"""The two versions of `mlr` that a gate holds against each other, each in a folder of its own.

A side is a git revision, a wheel or a directory. It is copied before anything is measured, and
loaded under a name of its own, so that both live in one process beside the harness's own `mlr`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import psutil

from bench.errors import UserError

PREFIX = "mlr-gate-"
PACKAGE = "mlr"


class Side(NamedTuple):
    """One version of the package: what it was called, and where its copy lies.

    Attributes:
        text: What the user wrote, or `working tree`.
        folder: The folder that holds the copied package.
        commit: The full id of the revision, if it is one.
        origin: The directory it was copied from, if it may change meanwhile.
        digest: A hash over the package's files.
    """

    text: str
    folder: Path
    commit: str | None
    origin: Path | None
    digest: str

    def require_unchanged(self) -> None:
        """Hold the directory that was copied against its copy.

        Raises:
            UserError: If it changed while it was measured.
        """
        if self.origin is not None and digest(self.origin / PACKAGE) != self.digest:
            raise UserError(
                f"{self.text} must stay as it is while it is measured; {self.origin / PACKAGE} "
                "changed: measure again, or give a revision"
            )


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder that is gone afterwards; what a killed gate left behind goes first."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = left.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-") as folder:
        yield Path(folder)


def take(text: str | None, folder: Path, root: Path) -> Side:
    """Copy a version of the package into a folder.

    Args:
        text: A directory, a wheel or a git revision; None is the working tree.
        folder: Where to; it is made.
        root: The checkout, for revisions and the working tree.

    Raises:
        UserError: If there is no such thing, or no package `mlr` in it.
    """
    folder.mkdir(parents=True)
    place = root if text is None else Path(text or os.devnull)
    commit, origin = None, None
    if place.is_dir() and (text is None or (place / PACKAGE / "__init__.py").is_file()):
        origin = place.resolve()
        _copy(origin / PACKAGE, folder / PACKAGE)
    elif place.suffix == ".whl":
        _unpack(place, folder)
    else:
        assert text is not None
        commit = _archive(text, folder, root)
    if not (folder / PACKAGE / "__init__.py").is_file():
        raise UserError(
            f"a side of the gate must hold the package {PACKAGE}; {text or root} has none"
        )
    shown = text if text is not None else "working tree"
    return Side(shown, folder, commit, origin, digest(folder / PACKAGE))


def digest(package: Path) -> str:
    """Return a hash over the names and the contents of a package's Python files."""
    seen = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        seen.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return seen.hexdigest()


def _copy(package: Path, target: Path) -> None:
    if package.is_dir():
        shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__"))


def _unpack(wheel: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(f"{PACKAGE}/")]
            archive.extractall(folder, names)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"a wheel must be a readable zip file; {wheel}: {error}") from error


def _archive(text: str, folder: Path, root: Path) -> str:
    commit = _git(root, text, "rev-parse", "--verify", "--quiet", "--end-of-options",
                  f"{text}^{{commit}}").decode().strip()  # fmt: skip
    archive = _git(root, text, "archive", "--format=tar", commit)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        wanted = [one for one in files.getmembers() if one.name.startswith(f"{PACKAGE}/")]
        files.extractall(folder, wanted, filter="data")
    return commit


def _git(root: Path, text: str, *arguments: str) -> bytes:
    rule = "a side of the gate is a git revision, a wheel or a directory"
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    except OSError as error:
        raise UserError(f"{rule}; git itself cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = f" ({said[-1]})" if said else ""
        raise UserError(f"{rule}; {text!r} is none that is known here{why}")
    return done.stdout


def load(folder: Path, name: str) -> ModuleType:
    """Import a side's package under another name, beside whatever else is loaded."""
    package = folder / PACKAGE
    spec = importlib.util.spec_from_file_location(
        name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
