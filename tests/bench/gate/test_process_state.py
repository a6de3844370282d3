"""A change of what all code of a process shares is seen, and named."""

import builtins
import decimal
import gc
import locale
import logging
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.gate.process_state import changes, process_state, shared_library
from bench.machine.host import loaded_code

HANDLER = logging.NullHandler()
Change = tuple[Callable[[], Any], Callable[[], Any]]  # what makes it, and what undoes it


def kept(read: Callable[[], Any], write: Callable[[Any], Any], value: Any) -> Change:
    """Return a change of what can be read and written."""
    before: list[Any] = []

    def make() -> None:
        before.append(read())
        write(value)

    return make, lambda: write(before.pop())


def compiler(part: str) -> Any:
    """Return the settings of a part of torch's compiler."""
    return import_module(f"torch._{part}.config")


def no_importer(path: str) -> None:
    """Stand for a hook of imports, which finds nothing."""
    raise ImportError


CHANGES: dict[str, Change] = {
    "environment variables (MADE_UP)": (
        lambda: os.environ.update(MADE_UP="1"),
        lambda: os.environ.pop("MADE_UP"),
    ),
    "the current folder": kept(Path.cwd, os.chdir, "/"),
    "sys.path": (lambda: sys.path.append("/made-up"), lambda: sys.path.remove("/made-up")),
    "builtins (made_up)": (
        lambda: setattr(builtins, "made_up", 1),
        lambda: delattr(builtins, "made_up"),
    ),
    "the recursion limit": kept(sys.getrecursionlimit, sys.setrecursionlimit, 12_345),
    "garbage collection": (lambda: gc.set_threshold(701, 11, 11), lambda: gc.set_threshold(*GC)),
    "warnings filters": (
        lambda: warnings.simplefilter("ignore", BytesWarning),
        lambda: warnings.filters.pop(0),
    ),
    "the root logger": (
        lambda: logging.root.addHandler(HANDLER),
        lambda: logging.root.removeHandler(HANDLER),
    ),
    "signal handlers (SIGUSR1)": kept(
        lambda: signal.getsignal(signal.SIGUSR1),
        lambda handler: signal.signal(signal.SIGUSR1, handler),
        signal.SIG_IGN,
    ),
    "the decimal context": kept(
        lambda: decimal.getcontext().prec,
        lambda digits: setattr(decimal.getcontext(), "prec", digits),
        7,
    ),
    "Python's random state": kept(random.getstate, random.setstate, random.Random(7).getstate()),
    "NumPy's random state": kept(
        np.random.get_state,
        np.random.set_state,
        np.random.RandomState(7).get_state(),
    ),
    "NumPy's error state (divide)": kept(
        np.geterr, lambda state: np.seterr(**state), np.geterr() | {"divide": "raise"}
    ),
    "torch's random state": kept(
        torch.get_rng_state, torch.set_rng_state, torch.Generator().manual_seed(7).get_state()
    ),
    "torch's default dtype": kept(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "torch's threads": kept(torch.get_num_threads, torch.set_num_threads, 3),
    "torch's deterministic mode, settings of torch's compiler (torch._inductor.config."
    "deterministic)": kept(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "torch's gradient mode": kept(torch.is_grad_enabled, torch.set_grad_enabled, False),
    "torch's precision of products": kept(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"
    ),
    "torch's settings of cuDNN": kept(
        lambda: torch.backends.cudnn.benchmark,
        lambda value: setattr(torch.backends.cudnn, "benchmark", value),
        True,
    ),
    "settings of torch's compiler (torch._dynamo.config.recompile_limit)": kept(
        lambda: compiler("dynamo").recompile_limit,
        lambda value: setattr(compiler("dynamo"), "recompile_limit", value),
        77,
    ),
    "settings of torch's compiler (torch._inductor.config.max_autotune)": kept(
        lambda: compiler("inductor").max_autotune,
        lambda value: setattr(compiler("inductor"), "max_autotune", value),
        True,
    ),
    "import hooks": (
        lambda: sys.path_hooks.append(no_importer),
        lambda: sys.path_hooks.remove(no_importer),
    ),
    "what becomes of subnormal numbers": (
        lambda: torch.set_flush_denormal(True),
        lambda: torch.set_flush_denormal(False),
    ),
}
GC = gc.get_threshold()


@pytest.mark.parametrize("named", CHANGES)
def test_a_change_is_named(named: str) -> None:
    make, undo = CHANGES[named]
    before = process_state()
    try:
        make()
        after = process_state()
    finally:
        undo()
    assert changes(before, after) == named
    assert changes(before, process_state()) == ""


def test_an_operator_that_is_registered_is_named() -> None:
    before = process_state()
    library = torch.library.Library("made_up", "DEF")
    library.define("it(Tensor x) -> Tensor")
    assert changes(before, process_state()) == "operators registered with torch (made_up::it)"
    library._destroy()


def test_an_extension_that_torch_builds_by_its_name_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module: Any = import_module("torch.utils.cpp_extension")
    before = process_state()
    monkeypatch.setitem(module.JIT_EXTENSION_VERSIONER.entries, "made_up", 0)
    assert changes(before, process_state()) == "extensions built by torch (made_up)"


def test_of_many_variables_three_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    before = process_state()
    for name in "DACBE":
        monkeypatch.setenv(f"MADE_UP_{name}", "1")
    said = "environment variables (MADE_UP_A, MADE_UP_B, MADE_UP_C and 2 more)"
    assert changes(before, process_state()) == said


def test_what_is_looked_at_stays_as_it_is_and_has_a_locale() -> None:
    assert process_state().keys() == process_state().keys()
    assert process_state()["the locale"] == locale.setlocale(locale.LC_ALL)


@pytest.mark.parametrize(
    ("loaded", "found"),
    [
        (("base/core.so", "head/core.so", "control/core.so", "base/a b.so"), None),
        (("base/core.so", "head/core.so"), "core.so"),  # the control's is missing
        (("head/core.so", "base/lib/new.so"), "core.so"),
        ((), None),
    ],
)
def test_a_library_that_is_loaded_for_one_version_alone_is_named(
    loaded: tuple[str, ...], found: str | None, tmp_path: Path
) -> None:
    """Not where the others do not have it, as one that the head adds."""
    folders = [tmp_path / name for name in ("base", "head", "control")]
    for folder in folders:
        folder.mkdir()
        (folder / "core.so").touch()
    elsewhere = {Path("/usr/lib/core.so")}
    assert shared_library(folders, elsewhere | {tmp_path / one for one in loaded}) == found


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists them")
def test_the_libraries_of_this_process_are_known() -> None:
    core = Path(np._core._multiarray_umath.__file__).resolve()  # type: ignore[attr-defined]
    assert {core, Path(sys.executable).resolve()} <= loaded_code()
    assert shared_library([core.parent]) is None
    assert all(one.is_absolute() for one in loaded_code())
