"""The two versions of `mlr` that a gate holds against each other, each in a folder of its own.

A side is a git revision, a wheel or a directory. It is copied before anything is measured, and
loaded under a name of its own, so that both live in one process beside the harness's own `mlr`. A
user's kernels are loaded once for each side: what they import as `mlr` is that side.
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
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import psutil

from mlr.registry import ENTRY_POINT_GROUP

from ..common.errors import UserError

PREFIX = "mlr-gate-"
PACKAGE = "mlr"
BROUGHT = "kernel-file"  # the folder in a side's copy that holds a user's file
_RULE = "a side of the gate is a git revision, a wheel or a directory"


class Side(NamedTuple):
    """One version of the package: what it was called, and where its copy lies.

    Attributes:
        text: What the user wrote, or `working tree`.
        folder: The folder that holds the copied package.
        commit: The full id of the revision, if it is one.
        origin: The directory it was copied from, if it may change meanwhile.
        digest: A hash over the package's files and the user's.
        brought: The user's kernel file that was copied, if it may change meanwhile.
        lacks: The user's kernel file that the side has no version of, below its checkout.
    """

    text: str
    folder: Path
    commit: str | None
    origin: Path | None
    digest: str
    brought: Path | None = None
    lacks: Path | None = None

    def require_unchanged(self) -> None:
        """Hold what was copied against its copy.

        Raises:
            UserError: If it changed while it was measured.
        """
        package = self.origin / PACKAGE if self.origin else None
        for now, copy in ((package, PACKAGE), (self.brought, BROUGHT)):
            if now is not None and digest(now) != digest(self.folder / copy):
                raise UserError(
                    f"{self.text} must stay as it is while it is measured; {now} changed: measure "
                    "again, or give a revision"
                )

    def bring(self, kernel_file: Path, within: Path | None, root: Path) -> Side:
        """Copy a user's kernel file to the side: its own version, where it is one that has any.

        A revision, and the checkout, hold the file or have no such kernels; any other directory
        that does not hold it, and a wheel, get it as it lies.

        Args:
            kernel_file: The file as it lies.
            within: Where it lies in a checkout or a directory of the user; None outside of both.
            root: The checkout.
        """
        target = self.folder / BROUGHT / kernel_file.name
        target.parent.mkdir()
        if within is not None and self.commit is not None:
            if (text := _committed(root, self.commit, within)) is None:
                return self._replace(lacks=within)
            target.write_bytes(text)
            return self._with(None)
        own = self.origin / within if self.origin and within else None
        if own is not None and not own.is_file() and self.origin == root.resolve():
            return self._replace(lacks=within)
        own = own if own is not None and own.is_file() else kernel_file
        shutil.copyfile(own, target)
        return self._with(own)

    def _with(self, brought: Path | None) -> Side:
        both = digest(self.folder / PACKAGE) + digest(self.folder / BROUGHT)
        return self._replace(digest=hashlib.sha256(both.encode()).hexdigest(), brought=brought)


def bring(kernel_file: Path, base: Side, head: Side, root: Path) -> tuple[Side, Side]:
    """Copy a user's kernel file to both sides, as of each; see `Side.bring`."""
    path = kernel_file.resolve()
    places = (place for place in (head.origin, root.resolve()) if place is not None)
    within = next((path.relative_to(one) for one in places if path.is_relative_to(one)), None)
    return base.bring(path, within, root), head.bring(path, within, root)


def of_kernel_file(base: Side, head: Side) -> list[str]:
    """Say what a user must know of a kernel file before it is measured: both sides have the same.

    Only what lies in the checkout, or in both of two directories, has a version for each side.
    """
    if base.brought is None or base.brought != head.brought:
        return []
    return [
        f"Both sides have the same kernel file, {base.brought}: a change of it cannot be seen. To "
        "compare two versions of it, commit it to the checkout, or give two directories that "
        "each hold one."
    ]


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
    if place.is_dir() and (text is None or _has_package(place)):
        origin = place.resolve()
        _copy(origin / PACKAGE, folder / PACKAGE)
    elif place.suffix == ".whl":
        _unpack(place, folder)
    else:
        assert text is not None
        commit = _archive(text, folder, root)
    if not _has_package(folder):
        raise _without_package(text or str(root))
    shown = text if text is not None else "working tree"
    return Side(shown, folder, commit, origin, digest(folder / PACKAGE))


def _has_package(place: Path) -> bool:
    return (place / PACKAGE / "__init__.py").is_file()


def _without_package(text: str) -> UserError:
    return UserError(
        f"{text!r} has no {PACKAGE}/ package; the gate compares two versions of {PACKAGE}: give a "
        "revision, a wheel or a directory that has one"
    )


def digest(place: Path) -> str:
    """Return a hash over the names and the contents of a folder's Python files, or of one file."""
    seen = hashlib.sha256()
    folder, paths = (place.parent, [place]) if place.is_file() else (place, place.rglob("*.py"))
    for path in sorted(paths):
        seen.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return seen.hexdigest()


def _copy(package: Path, target: Path) -> None:
    if package.is_dir():
        shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__"))


def _unpack(wheel: Path, folder: Path) -> None:
    if not wheel.exists():
        raise UserError(f"a wheel must be a readable zip file; {str(wheel)!r} does not exist")
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(f"{PACKAGE}/")]
            archive.extractall(folder, names)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"a wheel must be a readable zip file; {wheel}: {error}") from error


def _archive(text: str, folder: Path, root: Path) -> str:
    found = _run_git(root, "rev-parse", "--verify", "--quiet", "--end-of-options",
                     f"{text}^{{commit}}")  # fmt: skip
    if found.returncode != 0:
        raise _no_revision(text, root)
    commit = found.stdout.decode().strip()
    archive = _git(root, "archive", "--format=tar", commit)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        wanted = [one for one in files.getmembers() if one.name.startswith(f"{PACKAGE}/")]
        files.extractall(folder, wanted, filter="data")
    return commit


def _no_revision(text: str, root: Path) -> UserError:
    """Say why a text that names neither a wheel nor a copied directory is no revision either."""
    place = Path(text or os.devnull)
    if place.is_dir():
        return _without_package(text)
    if place.is_file():
        return UserError(f"{_RULE}; {text!r} is a file, and no wheel: give one ending in .whl")
    inside = _run_git(root, "rev-parse", "--is-shallow-repository")
    if inside.returncode != 0:
        return UserError(
            f"{_RULE}; {text!r} could only be a revision, and {root} is no git checkout "
            f"({_last_line(inside)}): give a wheel or a directory"
        )
    shallow = inside.stdout.strip() == b"true"
    remedy = (
        "the checkout is shallow: `git fetch --unshallow` brings the older revisions, on GitHub "
        "`fetch-depth: 0`"
        if shallow
        else "`git branch --all` and `git log` list the revisions"
    )
    return UserError(f"{_RULE}; {text!r} is none of them in {root}: {remedy}")


def _committed(root: Path, commit: str, path: Path) -> bytes | None:
    """Return a file as of a commit; None if the commit has none there."""
    name = path.as_posix()
    if not _git(root, "ls-tree", "--name-only", commit, "--", name):
        return None
    return _git(root, "show", f"{commit}:./{name}")


def _git(root: Path, *arguments: str) -> bytes:
    done = _run_git(root, *arguments)
    if done.returncode != 0:
        raise UserError(f"git {arguments[0]} must work in {root}; {_last_line(done)}")
    return done.stdout


def _run_git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    except OSError as error:
        raise UserError(f"{_RULE}; git itself cannot be run: {error.strerror}") from error


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return said[-1] if said else "it said nothing"


def load(folder: Path, name: str) -> ModuleType:
    """Import a side under another name, beside whatever else is loaded, with the user's kernels.

    Args:
        folder: Where its copy lies.
        name: What the package is called from now on.
    """
    package = folder / PACKAGE
    spec = importlib.util.spec_from_file_location(
        name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    with _in_its_place(name):
        module.load_installed()
        for path in (folder / BROUGHT).glob("*"):
            module.load_kernels(path)
    return module


@contextmanager
def _in_its_place(name: str) -> Iterator[None]:
    """Let `import mlr` find a side, and import afresh what registers its kernels with it."""
    offering = {point.module.partition(".")[0] for point in entry_points(group=ENTRY_POINT_GROUP)}

    def away() -> dict[str, ModuleType]:
        gone = {PACKAGE, *offering}
        return {n: sys.modules.pop(n) for n in list(sys.modules) if n.partition(".")[0] in gone}

    held = away()
    for module in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
        sys.modules[PACKAGE + module.removeprefix(name)] = sys.modules[module]
    try:
        yield
    finally:
        away()
        sys.modules.update(held)
