"""A version of `mlr` -> its kernels, for a harness whose own `mlr` may use other names.

All that the harness uses of a version it compares goes through this module. A kernel is given a
`Problem` of its own version, on the very tensors of the harness's problem.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import mlr
from mlr import OPERATIONS, Case, Problem
from mlr.declaration import START
from mlr.kernel_files import ENTRY_POINT_GROUP

from .versions import KERNEL_FILE_DIR, PACKAGE


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


def load_kernels(folder: Path, name: str) -> dict[str, VersionKernel]:
    """Load a version under another name, and return its kernels by their names."""
    version = load(folder, name)
    return {one: VersionKernel(version, kernel) for one, kernel in version.KERNELS.items()}


def load(folder: Path, name: str) -> ModuleType:
    """Import a version under another name, beside what else is loaded, with the user's kernels."""
    package = folder / PACKAGE
    spec = importlib.util.spec_from_file_location(
        name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with _in_its_place(name):
        module.load_installed()
        for path in (folder / KERNEL_FILE_DIR).glob("*.py"):
            module.load_kernels(path)
    return module


@contextmanager
def _in_its_place(name: str) -> Iterator[None]:
    """Let `import mlr` find a version, and import afresh what registers its kernels with it."""
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
