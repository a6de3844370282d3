"""Packages of several versions in one process: each version's code finds its own modules alone.

While a version is loaded, its modules are in `sys.modules`; afterwards they are kept aside. An
import statement of its code that runs later finds them by an `__import__` of its own. Any other
way to import them finds none and is noted in `REFUSED`: who asks cannot be told. So is a statement
that would take long each time, as what it is after is found anew and not kept.
"""

import builtins
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from pathlib import Path
from threading import RLock
from types import FunctionType, ModuleType
from typing import Any

REFUSED: list[str] = []  # what was asked for, and how, in words
_IMPORTING = RLock()  # held by the thread in which a version that was loaded imports more
_python_import = builtins.__import__


class VersionModules:
    """The modules of one version, and its code's way to import them.

    Attributes:
        packages: The names of the packages that are taken from the version's folders.
        names: These, and others of which every version has modules of its own.
        paths: The folders that hold the packages.
        modules: What was imported of all these, by its name, while the version is not active.
        builtins: What the code of the packages has in place of Python's: with its `__import__`;
            Python's own, where the version is alone in its process.
    """

    def __init__(
        self,
        packages: Collection[str] = (),
        paths: Sequence[Path] = (),
        others: Collection[str] = (),
        modules: Mapping[str, ModuleType] | None = None,
        *,
        alone: bool = False,
    ) -> None:
        self.packages, self.names = frozenset(packages), frozenset([*packages, *others])
        self.paths, self.modules = [str(path) for path in paths], dict(modules or {})
        self.builtins = vars(builtins)
        if not alone:
            self.builtins = self.builtins | {"__import__": self._import}
        self._held: dict[str, ModuleType] = {}
        self._is_loading = False
        FINDER.packages |= self.packages

    def activate(self, *, to_load: bool = True) -> None:
        """Let the names mean this version's modules, for everybody, until `deactivate`.

        Either it is loaded meanwhile, by threads of its own too, or one thread imports more of it.
        """
        self._held = self._taken()
        sys.modules.update(self.modules)
        sys.path[:0] = self.paths
        FINDER.active.append(self)
        self._is_loading = to_load
        if FINDER not in sys.meta_path:
            sys.meta_path.insert(0, FINDER)

    def deactivate(self) -> None:
        """Keep this version's modules aside, and put back what there was before."""
        self._is_loading = False
        FINDER.active.remove(self)
        for path in self.paths:
            with suppress(ValueError):
                sys.path.remove(path)
        self.modules = self._taken()
        sys.modules.update(self._held)

    @contextmanager
    def activated(self, *, to_load: bool = True) -> Iterator[None]:
        """Be active inside."""
        self.activate(to_load=to_load)
        try:
            yield
        finally:
            self.deactivate()

    def _taken(self) -> dict[str, ModuleType]:
        """Take what has one of the names out of `sys.modules`."""
        taken = [name for name in sys.modules if name.partition(".")[0] in self.names]
        return {name: sys.modules.pop(name) for name in taken}

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Import as Python does, the version's modules for its own names."""
        full = name
        if level and (package := (globals or {}).get("__package__")):
            full = resolve_name("." * level + name, package)
        top, names = full.partition(".")[0], fromlist or ()
        if top not in self.names or self._is_loading:
            return _python_import(name, globals, locals, names, level)
        if (found := self._kept(full, names)) is not None:
            return found if names else self.modules[top]
        with _IMPORTING:
            if self in FINDER.active:  # by an import of this thread, whose module imports this one
                return _python_import(name, globals, locals, names, level)
            try:
                with self.activated(to_load=False):
                    return _python_import(name, globals, locals, names, level)
            finally:
                if self._kept(full, names) is None:
                    what = f"{', '.join(names)} of {full}" if names else full
                    REFUSED.append(f"{what} is found anew at every import")

    def _kept(self, full: str, names: Sequence[str]) -> ModuleType | None:
        """Return a module that was imported before, if it holds all of some names."""
        found = self.modules.get(full)
        return found if found is not None and all(one in vars(found) for one in names) else None

    def require_own(self, folder: Path) -> None:
        """Refuse modules of the packages that are not of the version, whose copy is in a folder.

        Raises:
            ImportError: There is one.
        """
        for name, module in {**self.modules, **sys.modules}.items():
            file = getattr(module, "__file__", None)
            if file is None or name.partition(".")[0] not in self.packages:
                continue
            if not Path(file).resolve().is_relative_to(folder.resolve()):
                raise ImportError(
                    f"what is compared comes out of each version; {name} came from {file}: have "
                    "the version hold it, and uninstall the other one"
                )

    def require_apart(self, folder: Path, before: Collection[str]) -> None:
        """Refuse modules that the next version would find: they hold something of this one.

        Args:
            folder: Where the version's copy is.
            before: The names of the modules that there were before it was loaded.

        Raises:
            ImportError: There is one.
        """
        for name in sys.modules.keys() - before:
            module = sys.modules[name]
            file = getattr(module, "__file__", None)
            if file is not None and Path(file).is_relative_to(folder):
                raise ImportError(f"{name} lies beside the packages: name it in packages too")
            if any(map(self._is_own, list(getattr(module, "__dict__", {}).values()))):
                raise ImportError(f"{name}, which is imported once, uses the packages")

    def _is_own(self, value: Any) -> bool:
        """Say whether a value is a module, a function, a class or an object of the packages."""
        kind = type(value)
        name = kind.__module__
        if issubclass(kind, ModuleType):
            name = ModuleType.__getattribute__(value, "__dict__").get(
                "__name__"
            )  # loads no lazy one
        elif issubclass(kind, FunctionType | type):
            name = value.__module__
        return isinstance(name, str) and name.partition(".")[0] in self.packages


class _Finder(MetaPathFinder):
    """Finds modules of the packages for the version that is active, and refuses them otherwise."""

    def __init__(self) -> None:
        self.packages: frozenset[str] = frozenset()  # of any version
        self.active: list[VersionModules] = []  # the last one counts
        self.found: set[str] = set()  # modules of the packages

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] not in self.packages:
            return None
        if not self.active:
            REFUSED.append(f"{name} was asked for, and not by an import statement")
            raise ImportError(
                f"several versions of {name} are loaded, and what imports it is of none", name=name
            )
        version = self.active[-1]
        spec = PathFinder.find_spec(name, version.paths if path is None else path)
        if spec is None:  # and no other finder may find that of an installed package
            others = (one.find_spec(name, path, target) for one in sys.meta_path if one is not self)
            if any(one is not None for one in others):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        else:
            self.found.add(name)
        if spec is not None and spec.loader is not None:
            vars(spec.loader)["exec_module"] = _with_builtins(
                spec.loader.exec_module, version.builtins
            )
        return spec


def _with_builtins(
    execute: Callable[[ModuleType], None], own: Mapping[str, Any]
) -> Callable[[ModuleType], None]:
    def exec_module(module: ModuleType) -> None:
        vars(module)["__builtins__"] = own
        execute(module)

    return exec_module


FINDER = _Finder()
