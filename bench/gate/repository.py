"""What a gate needs to plan cases of kernels that use the packages of somebody's repository."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mlr import KERNELS

from ..common.errors import UserError
from ..plan.selection import Selection
from .config import Project
from .imports import VersionModules
from .loading import offering_packages
from .versions import Version, export_revision, require_packages


def kernel_file_option(project: Project, arguments: Sequence[str], root: Path) -> str | None:
    """Return the option of the kernel files that a project names; None where it names none.

    Raises:
        UserError: Neither it, nor the command line, nor an entry point of its packages names one.
    """
    if project.kernel_files:
        return ",".join(str(root / one) for one in project.kernel_files)
    is_given = any(one.partition("=")[0] == "--kernel-file" for one in arguments)
    if not is_given and offering_packages().isdisjoint(project.names):
        raise UserError(
            f"a kernel file says what of {', '.join(project.packages)} is timed; none is named: "
            'add kernel_files = ["bench/kernels.py"] to [tool.mlr-bench] in pyproject.toml, or '
            "give --kernel-file"
        )
    return None


def import_worktree(project: Project, root: Path, place: Path) -> Version | None:
    """Let this process import the packages as they are in the working tree.

    Return the copy of it below `place` where they had to be built, or else None.

    Raises:
        UserError: It lacks a package, or cannot be built.
    """
    built = export_revision(None, place / "worktree", root, project) if project.build else None
    if built is None:
        require_packages(root, project, str(root))
    paths = built.paths if built else [(root / one).parent for one in project.packages]
    VersionModules(project.names, paths, alone=True).activate()
    return built


def with_own_operations(axes: Selection, project: Project) -> Selection:
    """Return a selection of the operations whose kernels are named, or else are not `mlr`'s own.

    Raises:
        UserError: There is no such kernel.
    """
    own = {one.name for one in KERNELS.values() if not one.built_in}
    found = dict.fromkeys(
        one.operation
        for one in KERNELS.values()
        if one.name in (axes.kernel or own) and not (one.built_in and one.name in own)
    )
    if not found:
        raise UserError(
            "a package that offers kernels through the entry point mlr.kernels must register one; "
            f"none of {', '.join(project.packages)} does: decorate a function with @kernel(...)"
        )
    return replace(axes, operation=tuple(found))
