"""The two versions that a gate compares, each copied to a folder of its own.

A version is a git revision, a wheel or a directory. It is copied before anything is measured; a
user's kernel file is copied beside it, as of that version. Of versions of `mlr` that package alone
is copied; of a repository that `mlr` measures all of it, and what must be is built there.
"""

import io
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..common.errors import UserError, single_line
from .config import MLR, Project

PACKAGE = MLR
KERNEL_FILE_DIR = ".mlr-kernel-files"  # the folder in a version's copy that holds a user's files
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".git")
_RULE = "a version is a git revision, a wheel or a directory"


class Version(NamedTuple):
    """One version of what is compared: what it was called, and where its copy lies."""

    text: str  # what the user wrote, or `working tree`
    folder: Path  # that holds the copied package, or the whole repository
    commit: str | None  # the full id of the revision, if it is one
    origin: Path | None  # the directory it was copied from, if it is one
    kernel_files: tuple[Path, ...] = ()  # the user's that were copied, if they are of no revision
    lacks: tuple[str, ...] = ()  # say which of the user's kernel files the revision does not have
    paths: tuple[Path, ...] = ()  # the folders for `sys.path`, of a repository

    def __str__(self) -> str:
        """Name it, with the start of its commit."""
        return f"{self.text} ({self.commit[:10]})" if self.commit else self.text


def checkout_versions(
    base: str | None,
    head: str | None,
    folder: Path,
    root: Path,
    *kernel_files: Path,
    project: Project | None = None,
    pythons: Mapping[str, str] | None = None,
    worktree: Version | None = None,
) -> tuple[Version, Version]:
    """Copy both versions, and a user's kernel files as of each.

    Of a `project` that is not `mlr` itself they are built, each by its interpreter in `pythons`. A
    `worktree` that was exported before is the head, if that is the working tree.

    Raises:
        UserError: As `checkout_version` or `export_revision`; or a base of a project that is not
            committed, does not differ from the head, or lacks a kernel file.
    """
    own = Project() if project is None else project

    def checkout(name: str, text: str | None) -> Version:
        if own.is_of_mlr:
            return checkout_version(text, folder / name, root)
        python = (pythons or {}).get(name, sys.executable)
        return export_revision(text, folder / name, root, own, python)

    if not own.is_of_mlr:
        _require_base(base, head, root, pythons)
    old = checkout("base", base)
    new = worktree if worktree and head is None else checkout("head", head)
    for path in dict.fromkeys(file.resolve() for file in kernel_files):
        places = filter(None, (new.origin, root.resolve()))
        within = next((path.relative_to(one) for one in places if path.is_relative_to(one)), None)
        old, new = (_with_kernel_file(one, path, within, root) for one in (old, new))
    if old.lacks and not own.is_of_mlr:
        raise UserError(f"a kernel file must be in the base; {old.lacks[0]}")
    return old, new


def _require_base(
    base: str | None, head: str | None, root: Path, pythons: Mapping[str, str] | None
) -> None:
    """Refuse a base that is no committed state, or that is all that the working tree is."""
    if base is None or base.endswith(".whl"):
        return
    commit, place = _commit_of(base, root), Path(base)
    if commit is None and (place / ".git").exists() and (dirty := _changes(place)):
        raise UserError(
            f"a base is what was committed; {base} has changes that were not, as {dirty}: commit "
            "them there, or give a revision"
        )
    current = run_git(root, "rev-parse", "HEAD").stdout.decode().strip()
    if head is None and commit == current and not pythons and not _changes(root):
        raise UserError(
            f"a gate compares two versions; the working tree does not differ from {base} "
            f"({current[:10]}): change something, or give another BASE"
        )


def _changes(place: Path) -> str:
    """Return the first change of a checkout that was not committed; nothing where there is none.

    What a gate itself leaves there, and Python, is no change.
    """
    left = (":(exclude).benchmarks", ":(exclude,glob)**/__pycache__/**")
    told = run_git(place, "status", "--porcelain", "--untracked-files=all", "--", ".", *left).stdout
    return single_line(told.decode(errors="replace").partition("\n")[0].strip())


def _with_kernel_file(version: Version, path: Path, within: Path | None, root: Path) -> Version:
    """Copy a user's kernel file to a version: its own file, where it is one that has any.

    A revision holds a file of the checkout or has no such kernels; a directory that does not hold
    it, and a wheel, get it as it lies. One that was exported whole has it where it was.
    """
    target = version.folder / KERNEL_FILE_DIR / "-".join((within or Path(path.name)).parts)
    target.parent.mkdir(exist_ok=True)
    if version.paths and within is not None and (version.folder / within).is_file():
        target.symlink_to(Path("..", within))
        return version
    if within is not None and version.commit is not None:
        shown = run_git(root, "show", f"{version.commit}:./{within.as_posix()}")
        if shown.returncode != 0:
            todo = "commit it, and give a revision that has it"
            said = f"{within} is not in {version}: {todo}"
            return version._replace(lacks=(*version.lacks, said))
        target.write_bytes(shown.stdout)
        return version
    if within is not None and version.origin is not None:
        own = version.origin / within
        path = own if own.is_file() else path
    target.write_bytes(path.read_bytes())
    return version._replace(kernel_files=(*version.kernel_files, path))


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
        shutil.copytree(origin / PACKAGE, folder / PACKAGE, ignore=LEFT_OUT)
    elif text is not None and place.suffix == ".whl":
        _unpack_wheel(place, folder, f"{PACKAGE}/")
    elif text is not None and (commit := _commit_of(text, root)) is not None:
        _unpack_revision(commit, folder, root, f"{PACKAGE}/")
    if not _has_package(folder):
        raise UserError(
            f"{text or str(root)!r} has no {PACKAGE}/ package; the gate compares two versions of "
            f"{PACKAGE}: give a revision, a wheel or a directory that has one, or name your own "
            f'packages in {root / "pyproject.toml"}, [tool.mlr-bench] packages = ["yours"]; where '
            "that lies in another folder, start the gate there"
        )
    return Version(text or "working tree", folder, commit, origin)


def _has_package(place: Path) -> bool:
    return (place / PACKAGE / "__init__.py").is_file()


def export_revision(
    text: str | None, folder: Path, root: Path, settings: Project, python: str = sys.executable
) -> Version:
    """Copy a version of a repository whole into a new folder, and build it there.

    Args:
        text: A revision, a wheel or a directory; None for the working tree of `root`, without what
            git ignores.
        folder: Where it goes; of a wheel each folder that should hold a package gets all of it.
        root: The repository.
        settings: Which packages it must have, and by which command they are built.
        python: The interpreter that builds it.

    Raises:
        UserError: There is no such version, it cannot be built, or lacks a package.
    """
    folder.mkdir(parents=True)
    paths = tuple(dict.fromkeys((folder / one).parent for one in settings.packages))
    commit, origin = None, None
    if text is not None and text.endswith(".whl"):
        for path in paths:
            _unpack_wheel(Path(text), path)
    elif text is not None and (commit := _commit_of(text, root)) is not None:
        _unpack_revision(commit, folder, root)
    else:
        origin = (root if text is None else Path(text)).resolve()
        _copy_checkout(origin, folder)
    version = Version(text or "working tree", folder, commit, origin, paths=paths)
    if settings.build and not str(text).endswith(".whl"):
        _build(version, settings, python)
    require_packages(folder, settings, f"{version}")
    return version


def require_packages(place: Path, settings: Project, named: str) -> None:
    """Refuse a folder that lacks a package of the project, or holds it inside of another.

    `named` is what a message calls the folder.
    """
    for one in map(PurePosixPath, settings.packages):
        if len(one.parts) > 1 and (place / one.parent / "__init__.py").exists():
            raise UserError(
                "a package of [tool.mlr-bench] is named whole, or the rest of it would not be "
                f'compared; {one} is a part of {one.parent}: name "{one.parent}"'
            )
        if PathFinder.find_spec(one.name, [str((place / one).parent)]) is not None:
            continue
        below = next(iter(sorted(place.glob(f"*/{one.name}/__init__.py"))), None)
        mean = below and f'; did you mean "{below.parent.relative_to(place).as_posix()}"?'
        raise UserError(
            f"packages of [tool.mlr-bench] must be in both versions; {named} has no {one}"
            f"{mean or ': name it by its path, as src/theirs, or build it, by build'}"
        )


def _build(version: Version, settings: Project, python: str) -> None:
    first, *others = settings.build
    # A script that builds may import what lies beside it.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    # Where versions come from git, setuptools-scm, and hatch-vcs by it, would ask for a repository.
    env.setdefault("SETUPTOOLS_SCM_PRETEND_VERSION", "0")
    try:
        done = subprocess.run(
            [python if first == "python" else first, *others], cwd=version.folder, env=env,
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
    except OSError as error:
        why = f"{first}: {error.strerror}"
    else:
        if done.returncode == 0:
            return
        why = f"it ended with {done.returncode}: {_last_line(done)}"
    raise UserError(
        "build of [tool.mlr-bench] must end with 0 in both versions; "
        f"`{shlex.join(settings.build)}` in {version}: {single_line(why, 400)}; try it in a copy "
        "of the files without .git"
    )


def _copy_checkout(origin: Path, folder: Path) -> None:
    """Copy the files of a directory that git does not ignore; all of them where it knows none."""
    told = run_git(origin, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = dict.fromkeys(filter(None, os.fsdecode(told.stdout).split("\0")))
    if told.returncode != 0 or not names:
        shutil.copytree(origin, folder, ignore=LEFT_OUT, symlinks=True, dirs_exist_ok=True)
        return
    for name in names:
        source, target = origin / name, folder / name
        if source.is_symlink() or source.is_file():  # and neither removed nor a submodule
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def _unpack_wheel(wheel: Path, folder: Path, prefix: str = "") -> None:
    try:
        with zipfile.ZipFile(wheel) as files:
            files.extractall(folder, [n for n in files.namelist() if n.startswith(prefix)])
    except (OSError, zipfile.BadZipFile) as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"is none ({error})"
        raise UserError(f"a wheel must be a readable zip file; {str(wheel)!r} {why}") from error


def _commit_of(text: str, root: Path) -> str | None:
    """Return the full id of a revision; None where the text is a directory instead."""
    found = run_git(root, "rev-parse", "--verify", "--end-of-options", f"{text}^{{commit}}")
    if found.returncode == 0:
        return found.stdout.decode().strip()
    if text and Path(text).is_dir():
        return None
    if Path(text).is_file():
        raise UserError(f"{_RULE}; {text!r} is a file, and no wheel: give one ending in .whl")
    raise UserError(
        f"{_RULE}; {text!r} is none of them in {root} ({_last_line(found)}): give another; in "
        "a git checkout `git branch --all` and `git log` list the revisions, and `git fetch "
        "--unshallow`, on GitHub `fetch-depth: 0`, brings those that a shallow one lacks"
    )


def _unpack_revision(commit: str, folder: Path, root: Path, prefix: str = "") -> None:
    archive = run_git(root, "archive", "--format=tar", commit)
    if archive.returncode != 0:
        raise UserError(f"git archive must work in {root}; {_last_line(archive)}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        members = [one for one in files if one.name.startswith(prefix)]
        files.extractall(folder, members, filter=_without_links_that_lead_out)


def _without_links_that_lead_out(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    try:
        return tarfile.data_filter(member, folder)
    except tarfile.FilterError:
        return None


def run_git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in a folder; raises a UserError where it cannot be run at all."""
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    except OSError as error:
        raise UserError(f"{_RULE}; git itself cannot be run: {error.strerror}") from error


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    said = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace")
    return said.strip().rpartition("\n")[2] or "it said nothing"
