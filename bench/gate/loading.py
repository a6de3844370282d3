"""A version -> its kernels, for a harness whose own `mlr` may use other names.

All that the harness uses of a version it compares goes through this module. A kernel is given a
`Problem` of its own version, on the very tensors of the harness's problem. A version of other
packages has a copy of the installed `mlr`, in which its kernel files register what they time; the
first one in a process has that of the harness, which so knows their operations.
"""

import importlib.util
import sys
import sysconfig
from collections.abc import Callable, Collection, Sequence
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import mlr
from mlr import OPERATIONS, Case, Problem
from mlr.declaration import START
from mlr.kernel_files import ENTRY_POINT_GROUP

from ..common.paths import ROOT
from .imports import VersionModules
from .versions import KERNEL_FILE_DIR, PACKAGE

INSTALLED = ("stdlib", "platstdlib", "purelib", "platlib")  # folders of this Python
PACKAGES = ("site-packages", "dist-packages")  # and of others


class VersionKernel:
    """A kernel of a loaded version: what an oracle, the worker and the measuring of memory use."""

    def __init__(self, version: ModuleType, kernel: Any) -> None:
        self._version, self._kernel = version, kernel
        # One of another make is refused here, by the attribute that it lacks.
        self._bind, self.operation = kernel.bind, str(kernel.operation)
        self.allocates_outside_torch = getattr(kernel, "allocates_outside_torch", False)

    @property
    def oracle(self) -> ModuleType:
        """The version itself; or the harness's own `mlr`, where it is of another make."""
        used = mlr.check, mlr.check_on_other_inputs, Problem.share_inputs
        known = {**vars(self._version), **vars(self._version.Problem)}
        return self._version if all(one.__name__ in known for one in used) else mlr

    @property
    def is_judge(self) -> bool:
        """Whether its version's own oracle judges results."""
        return self.oracle is self._version

    def unsupported(self, case: Case) -> Any:
        """Say why the kernel does not take the case, or None if it does; an oracle asks it too."""
        return self.ask("unsupported", case)

    def ask(self, method: str, case: Case) -> Any:
        """Return what a method of the kernel says of a case; None where an older one has none."""
        answer = getattr(self._kernel, method, lambda case: None)
        return answer(case_in(self._version, case))

    def bind(self, problem: Problem) -> Callable[[], Any]:
        """Do every one-off thing and return the bare callable that is timed."""
        own = self._version.Problem(case_in(self._version, problem.case))
        own.seed, own.lr = problem.seed, problem.lr
        shared, inputs = problem.share_inputs(), OPERATIONS[self.operation].inputs
        own.__dict__.update({name: getattr(shared, name) for name in inputs})
        call: Callable[[], Any] = self._bind(own)

        def write(start: Any) -> None:
            own.__dict__[START] = start
            own.reset()

        if START in inputs:
            kind = type(shared.start)
            problem.set_parameter_accessors(lambda: kind(*own.parameters()), write)
        return call


def case_in(version: ModuleType, case: Case) -> Any:
    """Return a case as a loaded version has it."""
    return version.Case(case.operation, case.device, case.dtype, *case.sizes, seed=case.seed)


def load_kernels(
    folder: Path, name: str, packages: Sequence[str] = (), **options: bool
) -> dict[str, VersionKernel]:
    """Load a version, and return its kernels by their names; see `load`."""
    version = load(folder, name, packages, **options)
    return {one: VersionKernel(version, kernel) for one, kernel in version.KERNELS.items()}


def load(
    folder: Path,
    name: str,
    packages: Sequence[str] = (),
    *,
    first: bool = False,
    alone: bool = False,
) -> ModuleType:
    """Import a version beside what else is loaded, with the user's kernels, and return its `mlr`.

    Args:
        folder: Where the version was copied to.
        name: What its `mlr` is called in this process.
        packages: The packages that are compared, by their paths; none of `mlr` itself.
        first: Whether it is the first version of packages in this process, and so has the
            harness's own `mlr`.
        alone: Whether no other version of them will be loaded; then they stay importable.
    """
    before, alone = set(sys.modules), alone and bool(packages)
    modules = _modules_of(folder, name, packages, first=first, alone=alone)
    version = sys.modules[PACKAGE if packages and first else name]
    own = {"builtins": modules.builtins} if packages else {}  # an older mlr takes none
    modules.activate()
    try:
        version.load_installed()
        for path in sorted((folder / KERNEL_FILE_DIR).glob("*.py")):
            version.load_kernels(path.resolve(), **own)
        modules.require_own(folder)
        if packages:
            _require_none_of_worktree(folder, sys.modules.keys() - before, name)
    finally:
        if not alone:
            modules.deactivate()
    if packages and not alone:
        modules.require_apart(folder, before)
    return version


def _require_none_of_worktree(folder: Path, names: Collection[str], name_of_mlr: str) -> None:
    """Refuse modules out of the working tree, which every version would have alike.

    Args:
        folder: Where the version's copy is.
        names: The names of the modules that were imported while it was loaded.
        name_of_mlr: What its `mlr` is called.

    Raises:
        ImportError: There is one.
    """
    root, ours = ROOT.resolve(), {PACKAGE, name_of_mlr, __name__.partition(".")[0]}
    elsewhere = [folder.resolve(), *(Path(sysconfig.get_path(one)).resolve() for one in INSTALLED)]
    for name in names:
        file = getattr(sys.modules[name], "__file__", None)
        if file is None or name.partition(".")[0] in ours:
            continue
        path = Path(file).resolve()
        in_root = path.is_relative_to(root) and path.is_file()  # torch's own have made-up ones
        if not in_root or any(map(path.is_relative_to, elsewhere)):
            continue
        # An environment in the repository, or what a compiler keeps, is no part of its code.
        parts = path.relative_to(root).parts
        if not any(one.startswith(".") or one in PACKAGES for one in parts):
            raise ImportError(
                f"what a kernel file imports comes out of each version; {name} came from the "
                f"working tree, {file}: name it in packages"
            )


def _modules_of(
    folder: Path, name: str, packages: Sequence[str], *, first: bool, alone: bool
) -> VersionModules:
    """Return the modules that a version has for itself, with its `mlr` among them unless first.

    What registers kernels with `mlr` is imported afresh for each.
    """
    others = offering_packages()
    paths = dict.fromkeys((folder / one).parent for one in packages)
    names = [PurePosixPath(one).name for one in packages]
    if packages and first:
        return VersionModules(names, [*paths], others, alone=alone)
    _copy(Path(mlr.__file__ or "").parents[1] if packages else folder, name)
    of_mlr = {
        PACKAGE + one.removeprefix(name): sys.modules[one]
        for one in sys.modules
        if one == name or one.startswith(f"{name}.")
    }
    return VersionModules(names, [*paths], {PACKAGE, *others}, of_mlr, alone=alone)


def offering_packages() -> set[str]:
    """Return the installed packages that offer kernels, as they are imported."""
    return {point.module.partition(".")[0] for point in entry_points(group=ENTRY_POINT_GROUP)}


def _copy(folder: Path, name: str) -> None:
    """Import the `mlr` of a folder under another name."""
    package = folder / PACKAGE
    spec = importlib.util.spec_from_file_location(
        name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
