"""The two versions of `mlr` that a gate compares, each copied to a folder of its own.

A version is a git revision, a wheel or a directory. It is copied before anything is measured; a
user's kernel file is copied beside it, as of that version.
"""

import io
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import NamedTuple

from ..common.errors import UserError

PACKAGE = "mlr"
KERNEL_FILE_DIR = "kernel-file"  # the folder in a version's copy that holds a user's file
_RULE = "a version is a git revision, a wheel or a directory"


class Version(NamedTuple):
    """One version of the package: what it was called, and where its copy lies."""

    text: str  # what the user wrote, or `working tree`
    folder: Path  # that holds the copied package
    commit: str | None  # the full id of the revision, if it is one
    origin: Path | None  # the directory it was copied from, if it is one
    kernel_files: tuple[Path, ...] = ()  # the user's that were copied, if they are of no revision
    lacks: tuple[str, ...] = ()  # say which of the user's kernel files the revision does not have

    def __str__(self) -> str:
        """Name it, with the start of its commit."""
        return f"{self.text} ({self.commit[:10]})" if self.commit else self.text


def checkout_versions(
    base: str | None, head: str | None, folder: Path, root: Path, *kernel_files: Path
) -> tuple[Version, Version]:
    """Copy both versions, and a user's kernel files as of each; raises as `checkout_version`."""
    old = checkout_version(base, folder / "base", root)
    new = checkout_version(head, folder / "head", root)
    for path in (file.resolve() for file in kernel_files):
        places = filter(None, (new.origin, root.resolve()))
        within = next((path.relative_to(one) for one in places if path.is_relative_to(one)), None)
        old, new = (_with_kernel_file(one, path, within, root) for one in (old, new))
    return old, new


def _with_kernel_file(version: Version, path: Path, within: Path | None, root: Path) -> Version:
    """Copy a user's kernel file to a version: its own file, where it is one that has any.

    A revision holds a file of the checkout or has no such kernels; a directory that does not hold
    it, and a wheel, get it as it lies.
    """
    if within is not None and version.commit is not None:
        shown = _run_git(root, "show", f"{version.commit}:./{within.as_posix()}")
        if shown.returncode != 0:
            todo = "commit it, and give a revision that has it"
            said = f"{within} is not in {version}: {todo}"
            return version._replace(lacks=(*version.lacks, said))
        text = shown.stdout
    else:
        if within is not None and version.origin is not None:
            own = version.origin / within
            path = own if own.is_file() else path
        text = path.read_bytes()
        version = version._replace(kernel_files=(*version.kernel_files, path))
    (version.folder / KERNEL_FILE_DIR).mkdir(exist_ok=True)
    (version.folder / KERNEL_FILE_DIR / path.name).write_bytes(text)
    return version


def kernel_file_notes(base: Version, head: Version) -> list[str]:
    """Say what of a user's kernel files cannot be compared: one version lacks it, or no change."""
    return [*base.lacks, *head.lacks] + [
        f"Both versions have the same kernel file, {path}: a change of it cannot be seen. To "
        "compare two versions of it, commit it to the checkout, or give two directories that each "
        "hold one."
        for path in base.kernel_files
        if path in head.kernel_files
    ]


def checkout_version(text: str | None, folder: Path, root: Path) -> Version:
    """Copy the package of a version, None being the working tree of `root`, into a new folder.

    Raises:
        UserError: If there is no such thing, or no package `mlr` in it.
    """
    folder.mkdir(parents=True)
    place = root if text is None else Path(text or os.devnull)
    commit, origin = None, None
    if _has_package(place):
        origin = place.resolve()
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(origin / PACKAGE, folder / PACKAGE, ignore=ignored)
    elif text is not None and place.suffix == ".whl":
        _unpack(place, folder)
    elif text is not None:
        commit = _archive(text, folder, root)
    if not _has_package(folder):
        raise UserError(
            f"{text or str(root)!r} has no {PACKAGE}/ package; the gate compares two versions of "
            f"{PACKAGE}: give a revision, a wheel or a directory that has one"
        )
    return Version(text or "working tree", folder, commit, origin)


def _has_package(place: Path) -> bool:
    return (place / PACKAGE / "__init__.py").is_file()


def _unpack(archive: Path | io.BytesIO, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as files:
            files.extractall(folder, [n for n in files.namelist() if n.startswith(f"{PACKAGE}/")])
    except (OSError, zipfile.BadZipFile) as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"is none ({error})"
        raise UserError(f"a wheel must be a readable zip file; {str(archive)!r} {why}") from error


def _archive(text: str, folder: Path, root: Path) -> str | None:
    """Unpack a revision and return its full id; None where the text is a directory instead."""
    found = _run_git(root, "rev-parse", "--verify", "--end-of-options", f"{text}^{{commit}}")
    if found.returncode != 0:
        if text and Path(text).is_dir():
            return None
        if Path(text).is_file():
            raise UserError(f"{_RULE}; {text!r} is a file, and no wheel: give one ending in .whl")
        raise UserError(
            f"{_RULE}; {text!r} is none of them in {root} ({_last_line(found)}): give another; in "
            "a git checkout `git branch --all` and `git log` list the revisions, and `git fetch "
            "--unshallow`, on GitHub `fetch-depth: 0`, brings those that a shallow one lacks"
        )
    commit = found.stdout.decode().strip()
    archive = _run_git(root, "archive", "--format=zip", commit)
    if archive.returncode != 0:
        raise UserError(f"git archive must work in {root}; {_last_line(archive)}")
    _unpack(io.BytesIO(archive.stdout), folder)
    return commit


def _run_git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    except OSError as error:
        raise UserError(f"{_RULE}; git itself cannot be run: {error.strerror}") from error


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or "it said nothing"
