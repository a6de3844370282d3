"""A version of `mlr` -> its kernels, for a harness whose own `mlr` may use other names.

All that the harness uses of a version it compares goes through this module. A kernel is given a
`Problem` of its own version, on the very tensors of the harness's problem.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import mlr
from mlr import OPERATIONS, Case, Gradient, Problem
from mlr.registry import ENTRY_POINT_GROUP

from .versions import KERNEL_FILE_DIR, PACKAGE


class VersionKernel:
    """A kernel of a loaded version: its operation, and what it takes and binds."""

    def __init__(self, version: ModuleType, kernel: Any) -> None:
        self._version = version
        # One of another make is refused here, by the attribute that it lacks.
        self._bind, self._unsupported = kernel.bind, kernel.unsupported
        self.operation: str = kernel.operation
        self._assembly = getattr(kernel, "generated_assembly", lambda case: None)  # as older ones
        self._flops = getattr(kernel, "predicted_flops", lambda case: None)

    def unsupported(self, case: Case) -> str | None:
        """Say why the kernel does not take the case, or None if it does."""
        reason: str | None = self._unsupported(self._version.Case(*astuple(case)))
        return reason

    def declared_flops(self, case: Case) -> int | None:
        """Return the operations of a call by the kernel's formula, or None if it cannot say."""
        flops: int | None = self._flops(self._version.Case(*astuple(case)))
        return flops

    @property
    def oracle(self) -> ModuleType:
        """The version itself; or the harness's own `mlr`, where it is of another make."""
        used = mlr.check, mlr.check_on_other_inputs, Problem.share_inputs
        known = {**vars(self._version), **vars(self._version.Problem)}
        return self._version if all(one.__name__ in known for one in used) else mlr

    def assembly(self, case: Case) -> str | None:
        """Return the assembly that it generates for a case, or None if it cannot say."""
        text: str | None = self._assembly(self._version.Case(*astuple(case)))
        return text

    def bind(self, problem: Problem) -> Callable[[], Any]:
        """Do every one-off thing and return the bare callable that is timed."""
        own = self._version.Problem(self._version.Case(*astuple(problem.case)))
        own.seed, own.lr = problem.seed, problem.lr
        shared, inputs = problem.share_inputs(), OPERATIONS[self.operation].inputs
        own.__dict__.update({name: getattr(shared, name) for name in inputs})
        call: Callable[[], Any] = self._bind(own)

        def write(start: Gradient) -> None:
            own.__dict__["start"] = start
            own.reset()

        if "start" in inputs:
            problem.set_parameter_accessors(lambda: Gradient(*own.parameters()), write)
        return call


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
