"""The table of kernels: one decorator fills it, and nothing else lists kernels."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch

from .case import DTYPES, OPERATIONS, Case, Formula, Problem, unknown
from .checks import DEVICE_TYPES
from .originals import ReplacedError, nothing_replaced

ENTRY_POINT_GROUP = "mlr.kernels"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Kernel:
    """One way of computing an operation, with what it costs by formula.

    Attributes:
        name: The function's name; its id everywhere.
        operation: The name of what it computes, one of `OPERATIONS`.
        function: What the operation binds. Of a gradient: `(x, delta) -> Gradient`; of a step:
            `(problem) -> callable`; of a fit: that, or a model class.
        flops: Floating-point operations of one call; a multiply-add counts two.
        bytes_moved: The least bytes one call reads and writes.
        workspace: Bytes held at peak beyond inputs and outputs.
        devices: Device types it runs on.
        dtypes: Dtypes it takes.
        unsupported_reason: Says why it does not take a case, whatever its device and dtype; None if
            it does.
        delegates_to: Returns the kernel that does its work on a case, and whose costs it then has.
        owns_parameters: Whether a step kernel keeps parameters of its own, in a module for example,
            and not in the tensors of the problem.
        peer: Whether it is another library's, measured for comparison.
        allocates_outside_torch: Whether what it holds is not torch's to count. Its bound callable
            may then say how much that is by an attribute `peak_bytes`, as its library reports it.
        assembly: Returns the assembly that it generates for a case, for x86-64 (AT&T syntax) or
            AArch64; None if it generates none.
    """

    name: str
    operation: str
    function: Callable[..., Any]
    flops: Formula
    bytes_moved: Formula
    workspace: Formula
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    unsupported_reason: Callable[[Case], str | None] | None = None
    delegates_to: Callable[[Case], Kernel] | None = None
    owns_parameters: bool = False
    peer: bool = False
    allocates_outside_torch: bool = False
    assembly: Callable[[Case], str] | None = None

    @property
    def baseline(self) -> str:
        """The name of the kernel that this one is held against."""
        return OPERATIONS[self.operation].baseline

    @property
    def role(self) -> str:
        """What it is in a report: `auto`, which chooses among others, a `peer`, or a `kernel`."""
        return "auto" if self.delegates_to else "peer" if self.peer else "kernel"

    @property
    def built_in(self) -> bool:
        """Whether it comes with mlr, and not from a user's file or package."""
        return self.function.__module__.startswith(f"{__package__}.")

    def bind(self, problem: Problem) -> Callable[[], Any]:
        """Do every one-off thing, on the case's device; return the bare callable that is timed."""
        device = torch.device(problem.case.device)
        with torch.accelerator.device_index(None if device.type == "cpu" else device.index):
            return OPERATIONS[self.operation].bind(self.function, problem)

    def unsupported(self, case: Case) -> str | None:
        """Say why the kernel does not take the case, or None if it does."""
        if case.device.partition(":")[0] not in self.devices:
            return f"{self.name} runs on {', '.join(self.devices)} only"
        if case.dtype not in self.dtypes:
            return f"{self.name} takes {', '.join(self.dtypes)} only"
        return self.unsupported_reason(case) if self.unsupported_reason else None

    def predicted_flops(self, case: Case) -> int:
        """Predict the floating-point operations of one call."""
        return self._worker(case).flops(*case.sizes, case.itemsize)

    def predicted_bytes_moved(self, case: Case) -> int:
        """Predict the least bytes one call reads and writes."""
        return self._worker(case).bytes_moved(*case.sizes, case.itemsize)

    def predicted_peak_bytes(self, case: Case) -> int:
        """Predict the peak memory of one call: the workspace and the results.

        The results of a step or a fit are the parameters.
        """
        results = OPERATIONS[self.operation].result_numbers(*case.sizes) * case.itemsize
        return self._worker(case).workspace(*case.sizes, case.itemsize) + results

    def generated_assembly(self, case: Case) -> str | None:
        """Return the assembly of what is generated for a case, or None if nothing is."""
        emit = self._worker(case).assembly
        return emit(case) if emit else None

    def _worker(self, case: Case) -> Kernel:
        return self.delegates_to(case) if self.delegates_to else self


def needs(*packages: str, install: str = "") -> Callable[[Case], str | None]:
    """Return an `unsupported_reason` that says what to install where none of some packages is.

    Args:
        packages: The packages; one of them is enough.
        install: What pip is to install; the first of them by default.
    """

    def missing(case: Case) -> str | None:
        if any(find_spec(package) is not None for package in packages):
            return None
        wanted = install or packages[0]
        return f"needs {packages[0]}, which is not installed: python -m pip install {wanted}"

    return missing


def needs_triton(case: Case) -> str | None:
    """Say what Triton lacks here: itself, or the C compiler and header that its launchers need."""
    if missing := needs("triton")(case):
        return missing
    compilers = (os.environ["CC"],) if "CC" in os.environ else ("gcc", "clang")
    if not any(map(shutil.which, compilers)):
        return f"Triton needs a C compiler, and {' or '.join(compilers)} is not there: install gcc"
    header = Path(sysconfig.get_path("include", "posix_prefix"), "Python.h")
    if not header.exists():
        return f"Triton needs {header}, which is not there: install python3-dev"
    return None


KERNELS: dict[str, Kernel] = {}


def kernel(
    *,
    operation: str,
    flops: Formula,
    workspace: Formula,
    bytes_moved: Formula | None = None,
    devices: tuple[str, ...] = DEVICE_TYPES,
    dtypes: tuple[str, ...] = ("float32", "float64"),
    unsupported_reason: Callable[[Case], str | None] | None = None,
    delegates_to: Callable[[Case], Kernel] | None = None,
    owns_parameters: bool = False,
    peer: bool = False,
    allocates_outside_torch: bool = False,
    assembly: Callable[[Case], str] | None = None,
) -> Callable[[F], F]:
    """Register the function below under its own name and return it unchanged.

    See `Kernel` for what the arguments say. Without `bytes_moved` it is the operation's least.

    Raises:
        ValueError: For an unknown operation or dtype, a name taken already, or one that is no plain
            identifier (names go into test ids, file names and legends).
    """

    def register(function: F) -> F:
        name = function.__name__
        if operation not in OPERATIONS:
            raise ValueError(unknown("operation", operation, OPERATIONS))
        if wrong := sorted(set(dtypes) - set(DTYPES)):
            raise ValueError(f"a kernel's dtypes are of {', '.join(DTYPES)}; got {wrong[0]!r}")
        if not re.fullmatch(r"[A-Za-z]\w*", name, flags=re.ASCII):
            raise ValueError(f"a kernel is named by letters, digits and _; got {name!r}")
        if name in KERNELS:
            other = KERNELS[name].function
            raise ValueError(
                f"kernel {name!r} is registered already, by {other.__module__}; rename one of them"
            )
        moved = bytes_moved or OPERATIONS[operation].least_bytes
        KERNELS[name] = Kernel(
            name, operation, function, flops, moved, workspace, tuple(devices), tuple(dtypes),
            unsupported_reason, delegates_to, owns_parameters, peer, allocates_outside_torch,
            assembly,
        )  # fmt: skip
        return function

    return register


def get_kernel(name: str) -> Kernel:
    """Look a kernel up by name.

    Raises:
        ValueError: For an unknown name; the message gives the nearest one, and lists all.
    """
    try:
        return KERNELS[name]
    except KeyError:
        raise ValueError(unknown("kernel", name, dict(sorted(KERNELS.items())))) from None


class KernelFileError(ValueError):
    """A user's kernel file or package could not be loaded; one line that names their line."""


def load_kernels(path: str | Path) -> tuple[str, ...]:
    """Run a user's kernel file and return the names of the kernels that it registered.

    Raises:
        KernelFileError: If there is no such file, it is no Python file, raises, registers no
            kernel, or replaces what is not its own (see `originals`).
    """
    path = Path(path)
    _require_file(path)
    before = set(KERNELS)
    spec = importlib.util.spec_from_file_location(f"mlr_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise KernelFileError(
            f"a kernel file is a Python file ending in .py; got {str(path)!r}; rename it, or give "
            "another"
        )
    try:
        with _undone_on_error(), nothing_replaced():
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except ReplacedError as error:
        raise KernelFileError(f"{path} {error}") from error
    except Exception as error:
        raise KernelFileError(f"{_where(error, path)}: {_shortly(error)}") from error
    added = tuple(name for name in KERNELS if name not in before)
    if not added:
        raise KernelFileError(f"{path} registers no kernel; decorate a function with @kernel(...)")
    return added


def load_installed() -> tuple[str, ...]:
    """Import every installed package that offers kernels through the `mlr.kernels` entry point.

    Raises:
        KernelFileError: If one cannot be imported.
    """
    before = set(KERNELS)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            with _undone_on_error(), nothing_replaced():
                point.load()
        except Exception as error:
            raise KernelFileError(f"entry point {point.name!r}: {_shortly(error)}") from error
    return tuple(name for name in KERNELS if name not in before)


def _require_file(path: Path) -> None:
    if not path.exists():
        raise KernelFileError(
            f"a kernel file is a Python file that exists; there is no such file as {str(path)!r}; "
            "check the path"
        )
    if not path.is_file():
        kind = "a directory" if path.is_dir() else "no regular file"
        raise KernelFileError(
            f"a kernel file is a Python file; {str(path)!r} is {kind}; give the file itself"
        )


@contextmanager
def _undone_on_error() -> Iterator[None]:
    """Forget the kernels and the operations that are registered inside, should it fail."""
    tables: tuple[dict[str, Any], ...] = (KERNELS, OPERATIONS)
    before = [dict(table) for table in tables]
    try:
        yield
    except BaseException:
        for table, held in zip(tables, before, strict=True):
            table.clear()
            table.update(held)
        raise


def _shortly(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _where(error: Exception, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f"{path}:{error.lineno}"
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path}:{line}" if line else str(path)
