"""What a kernel must leave as it is: the functions that compute, time and check.

A kernel file is code that runs beside the harness. One that puts another `torch.equal`, another
clock, another oracle or another baseline in its place would measure itself.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from itertools import chain
from operator import is_
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, cast

import torch

# What is called by all that computes, times or checks, beside the packages that do it.
MODULES = (
    *("builtins", "gc", "math", "random", "secrets", "statistics", "time", "torch", "torch.linalg"),
    *("torch.accelerator", "torch.autograd", "torch.nn", "torch.nn.functional", "torch.optim"),
)
CLASSES = (torch.Tensor, torch.nn.Linear, torch.nn.MSELoss, torch.optim.SGD)
PACKAGES = (__name__.partition(".")[0], "bench", "mlr_bench", "pytest_benchmark")
ABSENT = object()
TORCH = Path(torch.__file__).parent


class ReplacedError(ValueError):
    """A kernel or its file has replaced what is not its own; one line that names it."""


@contextmanager
def nothing_replaced() -> Iterator[None]:
    """Compare mlr, the suite that measures it, and what they call, with what they were before.

    What was replaced inside is put back, so that it touches no other kernel: functions, their code
    and defaults; classes; constants; operations, kernels, devices and whatever else a table of a
    package holds. A table may grow. The suite counts as far as it is loaded.

    Raises:
        ReplacedError: If anything was.
    """
    before = list(_owners())
    try:
        yield
    finally:
        replaced = [name for owner in before for name in owner.restore()]
        if replaced:
            raise ReplacedError(
                f"replaces {replaced[0]}, which is not the kernel's: give a function of your own "
                "another name"
            )


def _function(value: Any) -> FunctionType | None:
    """Return the function that a value is or wraps, if it is Python's."""
    kind = type(value)
    if kind is FunctionType:
        return cast("FunctionType", value)
    if kind is staticmethod or kind is classmethod:
        value = value.__func__
    elif kind is property:
        value = value.fget
    return value if type(value) is FunctionType else None


def _is_storage(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, torch.storage.TypedStorage)


def _implementation(function: FunctionType) -> tuple[Any, ...]:
    return function.__code__, function.__defaults__, function.__kwdefaults__


class _Owner:
    """A module, class, table or object, and what it held.

    Of one that is `closed`, every value that was replaced is reported. Of torch and Python only
    what can be called is, for torch itself wraps some of its functions on first use. A value that
    was added is reported where it hides another: in a module a builtin of Python, in a class or an
    object what it inherits.
    """

    def __init__(self, name: str, owner: Any, *, closed: bool) -> None:
        self.name, self.owner, self.closed = name, owner, closed
        self.is_complete = closed or isinstance(owner, type)
        self.before = _contents(owner)
        functions = filter(None, map(_function, self.before.values()))
        self.implementations = [(one, _implementation(one)) for one in functions]

    def restore(self) -> list[str]:
        """Put back what was replaced or added, and return its names."""
        now, changed = _contents(self.owner), list[str]()
        if self._is_unchanged(now):
            return changed
        for key, value in self.before.items():
            if now.get(key, ABSENT) is not value and not self._may_differ(value, now.get(key)):
                changed.append(key)
                self._put(key, value)
        for key in now.keys() - self.before.keys() if self.is_complete else ():
            value = now[key]
            by_python = str(key).startswith("__") and not callable(value)  # notes about a class
            if self._hides(key) and not by_python and not self._may_differ(value, value):
                changed.append(key)
                delattr(self.owner, key)
        for function, before in self.implementations:
            pairs = zip(_implementation(function), before, strict=True)
            if any(one is not other for one, other in pairs):
                changed.append(function.__name__)
                function.__code__, function.__defaults__, function.__kwdefaults__ = before
        return [f"{self.name}.{key}" for key in changed]

    def _is_unchanged(self, now: dict[Any, Any]) -> bool:
        """Say in little time whether everything is the very same, in the same order."""
        functions = [_implementation(function) for function, _ in self.implementations]
        before = [implementation for _, implementation in self.implementations]
        return (
            len(now) == len(self.before)
            and all(map(is_, chain(now, now.values()), chain(self.before, self.before.values())))
            and all(map(is_, chain(*functions), chain(*before)))
        )

    def _hides(self, key: str) -> bool:
        if isinstance(self.owner, ModuleType):
            return hasattr(builtins, key)
        if isinstance(self.owner, type):
            return any(key in vars(base) for base in self.owner.__mro__[1:])
        return hasattr(type(self.owner), key)

    def _may_differ(self, before: Any, now: Any) -> bool:
        if self.closed or isinstance(self.owner, dict):
            return False
        if not callable(before):
            return isinstance(self.owner, ModuleType)
        if _is_storage(before) and _is_storage(now):
            return True  # torch has another one with another default dtype
        function = _function(now)
        return (
            function is not None
            and function.__name__ == getattr(before, "__name__", None)
            and Path(function.__code__.co_filename).is_relative_to(TORCH)
        )

    def _put(self, key: Any, value: Any) -> None:
        if isinstance(self.owner, dict):
            self.owner[key] = value
        elif isinstance(self.owner, type | ModuleType):
            setattr(self.owner, key, value)
        else:
            object.__setattr__(self.owner, key, value)  # a frozen dataclass too


def _contents(owner: Any) -> dict[Any, Any]:
    if isinstance(owner, dict):
        return dict(owner)
    if is_dataclass(owner) and not isinstance(owner, type):
        return {field.name: getattr(owner, field.name) for field in fields(owner)}
    return dict(getattr(owner, "__dict__", {}))  # a tuple has none, and cannot be changed


def _owners() -> Iterator[_Owner]:
    """Yield what is watched: modules, the classes that they define, and the tables they hold."""
    for name in MODULES:
        if (module := sys.modules.get(name)) is not None:
            yield _Owner(name, module, closed=False)
    for found in CLASSES:
        yield _Owner(f"{found.__module__}.{found.__qualname__}", found, closed=False)
    seen: set[int] = set()  # of tables, which several modules have, and of what they hold
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in PACKAGES and isinstance(module, ModuleType):
            yield _Owner(name, module, closed=True)
            yield from _parts(name, module, seen)


def _parts(name: str, module: ModuleType, seen: set[int]) -> Iterator[_Owner]:
    for key, value in list(vars(module).items()):
        if isinstance(value, type) and value.__module__ == name:
            yield _Owner(f"{name}.{key}", value, closed=True)
        elif isinstance(value, dict) and not key.startswith("__") and id(value) not in seen:
            seen.add(id(value))
            yield _Owner(f"{name}.{key}", value, closed=False)
            for entry, held in list(value.items()):
                ours = type(held).__module__.partition(".")[0] in PACKAGES
                if ours and id(held) not in seen:
                    seen.add(id(held))
                    yield _Owner(f"{name}.{key}[{entry!r}]", held, closed=True)
