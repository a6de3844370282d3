"""The table of kernels: one decorator fills it, and nothing else lists kernels."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch

from .arrays import DTYPES as ARRAY_DTYPES
from .arrays import arrays, tensors
from .case import DTYPES, Case, Problem
from .checks import DEVICE_TYPES
from .declaration import OPERATIONS, Formula, cost, undeclared, unknown

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Kernel:
    """One way of computing an operation, with what it costs by formula.

    Attributes:
        name: The function's name; of the kernels of its operation no other has it.
        operation: The name of what it computes, one of `OPERATIONS`.
        function: What the operation binds. Of a gradient: `(x, delta) -> Gradient`; of a step:
            `(problem) -> callable`; of a fit: that, or a model class; of an operation of one's own
            a function of all its tensors.
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
        is_baseline: Whether it is what the other kernels of its operation are held against.
        binds: Whether the function is given the problem and returns the callable that is timed,
            whatever the operation binds.
        numpy: Whether the function is one of NumPy arrays, which share the tensors' memory.
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
    is_baseline: bool = False
    binds: bool = False
    numpy: bool = False

    @property
    def key(self) -> str:
        """Its name among all kernels: one of an operation of one's own has that before it."""
        own = "" if OPERATIONS[self.operation].built_in else f"{self.operation}."
        return f"{own}{self.name}"

    @property
    def baseline(self) -> str:
        """The name of the kernel that this one is held against."""
        return baseline_of(self.operation).name

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
            if self.binds:
                bound: Callable[[], Any] = self.function(problem)
                return bound
            bind = OPERATIONS[self.operation].bind
            if self.numpy:
                given = arrays(*bind(lambda *inputs: inputs, problem)())
                return lambda: tensors(self.function(*given))
            return bind(self.function, problem)

    def unsupported(self, case: Case) -> str | None:
        """Say why the kernel does not take the case, or None if it does."""
        if case.device.partition(":")[0] not in self.devices:
            return f"{self.name} runs on {', '.join(self.devices)} only"
        if case.dtype not in self.dtypes:
            return f"{self.name} takes {', '.join(self.dtypes)} only"
        return self.unsupported_reason(case) if self.unsupported_reason else None

    def predicted_flops(self, case: Case) -> int | None:
        """Predict the floating-point operations of one call; None where they are not declared."""
        return self._cost("flops", case)

    def predicted_bytes_moved(self, case: Case) -> int | None:
        """Predict the least bytes one call reads and writes."""
        return self._cost("bytes_moved", case)

    def predicted_peak_bytes(self, case: Case) -> int | None:
        """Predict the peak memory of one call: the workspace and the results.

        The results of a step or a fit are the parameters.
        """
        numbers = OPERATIONS[self.operation].result_numbers(*case.sizes)
        workspace = self._cost("workspace", case)
        if numbers is None or workspace is None:
            return None
        return workspace + numbers * case.itemsize

    def generated_assembly(self, case: Case) -> str | None:
        """Return the assembly of what is generated for a case, or None if nothing is."""
        emit = self._worker(case).assembly
        return emit(case) if emit else None

    def _cost(self, name: str, case: Case) -> int | None:
        worker = self._worker(case)
        formula = getattr(worker, name)
        return cost(f"{name} of kernel {worker.name}", formula, case.sizes, case.itemsize)

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


KERNELS: dict[str, Kernel] = {}  # by their keys


def kernel(
    *,
    operation: str,
    flops: Formula = undeclared,
    workspace: Formula = undeclared,
    bytes_moved: Formula | None = None,
    devices: tuple[str, ...] = DEVICE_TYPES,
    dtypes: tuple[str, ...] = ("float32", "float64"),
    unsupported_reason: Callable[[Case], str | None] | None = None,
    delegates_to: Callable[[Case], Kernel] | None = None,
    owns_parameters: bool = False,
    peer: bool = False,
    allocates_outside_torch: bool = False,
    assembly: Callable[[Case], str] | None = None,
    baseline: bool = False,
    binds: bool = False,
    numpy: bool = False,
) -> Callable[[F], F]:
    """Register the function below under its own name and return it unchanged.

    See `Kernel` for what the arguments say. Without `bytes_moved` it is the operation's least; the
    `baseline` of an operation is one of its kernels. With `numpy` the function takes NumPy arrays
    on the memory of the inputs and returns an array, or a tuple of arrays; it runs on the CPU.

    Raises:
        ValueError: For an unknown operation or dtype, a name that another kernel of the operation
            has, or one that is no plain identifier (names go into test ids, file names and
            legends), a second baseline, or `numpy` where there are no arrays.
    """

    def register(function: F) -> F:
        name = function.__name__
        if operation not in OPERATIONS:
            raise ValueError(unknown("operation", operation, OPERATIONS))
        if wrong := sorted(set(dtypes) - set(DTYPES)):
            raise ValueError(f"a kernel's dtypes are of {', '.join(DTYPES)}; got {wrong[0]!r}")
        if not re.fullmatch(r"[A-Za-z]\w*", name, flags=re.ASCII):
            raise ValueError(f"a kernel is named by letters, digits and _; got {name!r}")
        made = Kernel(
            name, operation, function, flops, bytes_moved or OPERATIONS[operation].least_bytes,
            workspace, _with_arrays(devices) if numpy else tuple(devices), tuple(dtypes),
            unsupported_reason, delegates_to, owns_parameters, peer, allocates_outside_torch,
            assembly, baseline, binds, numpy,
        )  # fmt: skip
        if numpy:
            _require_arrays(made)
        if made.key in KERNELS:
            other = KERNELS[made.key].function
            raise ValueError(
                f"kernel {name!r} is registered already, by {other.__module__}; rename one of them"
            )
        if baseline and (others := _baselines(operation)):
            raise ValueError(
                f"operation {operation} has one baseline; got {name} besides {others[0].name}; "
                "leave baseline=True out of one of them"
            )
        KERNELS[made.key] = made
        return function

    return register


def _with_arrays(devices: tuple[str, ...]) -> tuple[str, ...]:
    """Return the device types whose memory NumPy can read."""
    return tuple(one for one in devices if one == "cpu")


def _require_arrays(made: Kernel) -> None:
    """Refuse a kernel of NumPy arrays that would be given none."""
    declared = OPERATIONS[made.operation]
    if made.binds or (declared.built_in and declared.trains):
        raise ValueError(
            f"with numpy=True a kernel is a function of the inputs; {made.name} of "
            f"{made.operation} is given the problem; leave numpy out, and take problem.x.numpy()"
        )
    if not made.devices:
        raise ValueError("with numpy=True a kernel runs on cpu; got other devices; leave them out")
    if strange := sorted(set(made.dtypes) - set(ARRAY_DTYPES)):
        raise ValueError(f"NumPy has {', '.join(ARRAY_DTYPES)}; got {strange[0]}; leave it out")


def get_kernel(name: str, operation: str | None = None) -> Kernel:
    """Look a kernel up by name, of an operation or of all.

    A name that kernels of several operations have is that of a built-in one, if there is one.

    Raises:
        ValueError: For an unknown name; the message gives the nearest one, and lists all; or one
            that several operations of one's own have, where none is named.
    """
    if operation is None and name in KERNELS:
        return KERNELS[name]
    among = [one for one in KERNELS.values() if operation in (None, one.operation)]
    found = [one for one in among if one.name == name]
    if len(found) > 1:
        raise ValueError(
            f"several operations have a kernel {name!r}: {', '.join(one.key for one in found)}; "
            "choose one of these"
        )
    if not found:
        raise ValueError(unknown("kernel", name, dict.fromkeys(sorted(one.name for one in among))))
    return found[0]


def baseline_of(operation: str) -> Kernel:
    """Return the kernel that the others of an operation are held against.

    Raises:
        ValueError: If none was declared to be that.
    """
    for found in _baselines(operation):
        return found
    raise ValueError(
        f"operation {operation} needs a baseline, which others are compared with; none of its "
        "kernels is one; give one of them baseline=True"
    )


def _baselines(operation: str) -> list[Kernel]:
    return [one for one in KERNELS.values() if one.operation == operation and one.is_baseline]
