"""Kernels and operations of a user's own: out of a file, or out of an installed package."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from .case import Case, Problem
from .declaration import OPERATIONS
from .oracle import check
from .originals import ReplacedError, nothing_replaced
from .registry import KERNELS, baseline_of

ENTRY_POINT_GROUP = "mlr.kernels"
FILES: dict[Path, tuple[str, ...]] = {}  # the kernels of each file that was loaded


class KernelFileError(ValueError):
    """A user's kernel file or package could not be loaded; one line that names their line."""


def load_kernels(path: str | Path, builtins: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Run a user's kernel file and return the keys in `KERNELS` of what it registered.

    A file that was loaded before is not run again. `builtins` are those that its code finds, where
    they are not Python's own: whoever loads two versions of a package gives each its `__import__`.

    Raises:
        KernelFileError: If there is no such file, it is no Python file, raises, registers no
            kernel, declares an operation whose baseline is missing or wrong, or replaces what is
            not its own (see `originals`).
    """
    path = Path(path)
    _require_file(path)
    if known := [key for key in FILES.get(path.resolve(), ()) if key in KERNELS]:
        return tuple(known)
    before = set(KERNELS)
    spec = importlib.util.spec_from_file_location(f"mlr_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise KernelFileError(
            f"a kernel file is a Python file ending in .py; got {str(path)!r}; rename it, or give "
            "another"
        )
    try:
        with _undone_on_error(), nothing_replaced(), _baselines_checked():
            module = importlib.util.module_from_spec(spec)
            if builtins is not None:
                vars(module)["__builtins__"] = builtins
            spec.loader.exec_module(module)
    except ReplacedError as error:
        raise KernelFileError(f"{path} {error}") from error
    except Exception as error:
        raise KernelFileError(f"{_where(error, path)}: {_shortly(error)}") from error
    added = tuple(key for key in KERNELS if key not in before)
    if not added:
        raise KernelFileError(f"{path} registers no kernel; decorate a function with @kernel(...)")
    FILES[path.resolve()] = added
    return added


def load_installed() -> tuple[str, ...]:
    """Import every installed package that offers kernels through the `mlr.kernels` entry point.

    Raises:
        KernelFileError: If one cannot be imported.
    """
    before = set(KERNELS)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            with _undone_on_error(), nothing_replaced(), _baselines_checked():
                point.load()
        except Exception as error:
            raise KernelFileError(f"entry point {point.name!r}: {_shortly(error)}") from error
    return tuple(key for key in KERNELS if key not in before)


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


@contextmanager
def _baselines_checked() -> Iterator[None]:
    """Hold the baseline of each operation that is declared inside against its oracle.

    Raises:
        ValueError: If an operation has none, or it is wrong or raises at the least sizes.
    """
    before = set(OPERATIONS)
    yield
    for name in OPERATIONS.keys() - before:
        baseline, case = baseline_of(name), Case(name, "cpu", "float64",
                                                 sizes=OPERATIONS[name].least_sizes)  # fmt: skip
        if baseline.unsupported(case) is not None:
            continue
        problem, rule = Problem(case), f"the baseline {baseline.name} of {name} must be right"
        try:
            found = check(baseline, problem, baseline.bind(problem))
        except Exception as error:
            raise ValueError(f"{rule}; it raises {_shortly(error)}; mend it") from error
        if not found.ok:
            raise ValueError(f"{rule}; {found.reason}; mend it, or the oracle")


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
