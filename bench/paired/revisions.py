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
        version = version._replace(paths=(folder,))
    return Revision(version, root, tuple(project.names))
