"""A revision of the repository that the tests lie in -> a folder that holds it.

What of a session's paths and arguments lies in the repository lies in that folder instead.
"""

import io
import os
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..common.errors import UserError


class Version(NamedTuple):  # joined later: gate.versions.Version
    """One version of a repository."""

    text: str
    folder: Path
    commit: str | None
    paths: tuple[Path, ...]

    def __str__(self) -> str:
        """Name it, with the start of its commit."""
        return f"{self.text} ({self.commit[:10]})" if self.commit else self.text


class Revision(NamedTuple):
    """A revision, exported from a repository."""

    version: Version
    root: Path  # of the repository
    packages: tuple[str, ...]  # that must come from it, as they are imported

    def place(self, path: Path) -> Path:
        """Return where a path of the repository lies in the revision; any other as it is."""
        path = path.resolve()
        inside = path.is_relative_to(self.root)
        return self.version.folder / path.relative_to(self.root) if inside else path

    def text(self, argument: str) -> str:
        """Return an argument of a command line with the repository's paths as the revision's."""
        before, found, after = argument.partition(str(self.root))
        at_its_end = found and after[:1] in ("", os.sep, ":")
        return f"{before}{self.version.folder}{after}" if at_its_end else argument

    def search_paths(self, paths: Iterable[str]) -> list[str]:
        """Return where modules are looked for: the revision's folders first, in place of others.

        What the revision has not, as an environment inside the repository, is left where it is.
        """
        there = [(one, self.text(one)) for one in paths]
        own = [str(path) for path in self.version.paths]
        return own + [new if Path(new or ".").exists() else old for old, new in there]


def export(text: str, folder: Path, tests: Path) -> Revision:
    """Export a revision of the repository that a folder of tests lies in, and build it.

    Raises:
        UserError: There is no repository or no such revision, or it cannot be built.
    """
    told = _git(tests, "rev-parse", "--show-toplevel")
    if told.returncode != 0:
        raise UserError(
            f"against= takes a revision of the tests' own repository; {tests} is in none"
        )
    root = Path(os.fsdecode(told.stdout).strip()).resolve()
    settings = read_project(root / "pyproject.toml")
    version = export_revision(text, folder, root, settings)
    names = tuple(Path(one).stem for one in settings.get("packages", []))
    return Revision(version, root, names)


def read_project(pyproject: Path) -> Any:  # joined later: gate.config.read_project
    """Read `[tool.mlr-bench]` of a pyproject file."""
    text = pyproject.read_text(encoding="utf-8") if pyproject.exists() else ""
    return tomllib.loads(text).get("tool", {}).get("mlr-bench", {})


def export_revision(text: str, folder: Path, root: Path, settings: Any) -> Version:
    """Export a revision, build it, and say where it lies."""
    # joined later: gate.versions.export_revision
    told = _git(root, "rev-parse", "--verify", "--end-of-options", f"{text}^{{commit}}")
    if told.returncode != 0:
        raise UserError(f"a version is a git revision; {text!r} is none in {root}: give another")
    commit = told.stdout.decode().strip()
    archive = _git(root, "archive", "--format=tar", commit).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    if build := settings.get("build"):
        command = [sys.executable if build[0] == "python" else build[0], *build[1:]]
        if (code := subprocess.run(command, cwd=folder, capture_output=True).returncode) != 0:
            raise UserError(f"build must end with 0 in {text}; it ended with {code}: correct it")
    paths = dict.fromkeys((folder / one).parent for one in settings.get("packages", ["."]))
    return Version(text, folder, commit, tuple(paths))


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    except OSError as error:
        raise UserError(f"against= takes a git revision; git cannot be run: {error}") from error
