"""A revision of the repository that the tests lie in -> a folder that holds it.

What of a session's paths and arguments lies in the repository lies in that folder instead.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..common.errors import UserError
from ..gate.config import read_project
from ..gate.versions import Version, export_revision, run_git


class Revision(NamedTuple):
    """A revision, exported from a repository."""

    version: Version
    root: Path  # of the repository
    packages: tuple[str, ...]  # that must come from it, as they are imported
    link: Path | None = None  # the same folder, or one in it, as the session calls it

    def place(self, path: Path) -> Path:
        """Return where a path of the repository lies in the revision; any other as it is."""
        path = path.resolve()
        inside = path.is_relative_to(self.root)
        return self.version.folder / path.relative_to(self.root) if inside else path

    def text(self, argument: str) -> str:
        """Return an argument of a command line with the repository's paths as the revision's."""
        for old in filter(None, (self.root, self.link)):
            before, found, after = argument.partition(str(old))
            if found and after[:1] in ("", os.sep, ":"):
                return f"{before}{self.place(old)}{after}"
        return argument

    def search_paths(self, paths: Iterable[str]) -> list[str]:
        """Return where modules are looked for: the revision's folders first, in place of others.

        What the revision has not, as an environment inside the repository, is left where it is.
        """
        own = [str(path) for path in self.version.paths]
        for one in paths:
            there = self.place(Path(one))
            has_it = one and there.is_relative_to(self.version.folder) and there.exists()
            own.append(str(there) if has_it else one)
        return own


def export(text: str, folder: Path, tests: Path) -> Revision:
    """Export a revision of the repository that a folder of tests lies in, and build it.

    Raises:
        UserError: There is no repository or no such revision, or it cannot be built.
    """
    told = run_git(tests, "rev-parse", "--show-toplevel")
    if told.returncode != 0:
        raise UserError(
            f"against= takes a revision of the tests' own repository; {tests} is in none"
        )
    root = Path(os.fsdecode(told.stdout).strip()).resolve()
    project = read_project(root / "pyproject.toml")
    if "packages" not in project.model_fields_set:  # then none must be there
        project = project.model_copy(update={"packages": []})
    version = export_revision(text, folder, root, project)
    if not version.paths:
        places = (folder / "src", folder)
        version = version._replace(paths=tuple(one for one in places if one.is_dir()))
    return Revision(version, root, tuple(project.names), _link(tests, root))


def _link(tests: Path, root: Path) -> Path | None:
    """Return the topmost folder of a path that is in the repository, if a link leads to it."""
    inside = [one for one in (tests, *tests.parents) if one.resolve().is_relative_to(root)]
    return inside[-1] if inside and inside[-1] != inside[-1].resolve() else None
