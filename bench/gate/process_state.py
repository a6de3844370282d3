"""What all code of a process shares, so that a package which changes it changes it for others too.

Two versions of such a package, loaded into one process, would be measured under what the later one
has set, or by the native library that the earlier one has loaded. Here is what can be looked at
cheaply.
"""

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
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..machine.cores import usable
from ..machine.host import loaded_code
from .imports import FINDER

MOST_NAMED = 3  # of variables, handlers or operators in a message
RANDOM = ("Python's random state", "NumPy's random state", "torch's random state")
COMPILER = ("torch._dynamo.config", "torch._inductor.config")


def process_state() -> dict[str, Any]:
    """Return what a process has now, by what a message calls it.

    What torch imports when it first traces or compiles is imported before: it changes much of this.
    """
    import_module("torch._inductor.compile_fx")  # takes seconds
    with import_module("torch._subclasses.fake_tensor").FakeTensorMode():
        torch.ones(1).sin()
    decimals = decimal.getcontext()
    cudnn: Any = torch.backends.cudnn  # whose stubs lack some
    of_numpy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002  a package may draw of it
    handlers = {signal.Signals(one).name: signal.getsignal(one) for one in _signals()}
    return {
        "environment variables": dict(os.environ),
        "the current folder": os.getcwd(),
        "sys.path": [*sys.path],
        "import hooks": [one for one in (*sys.meta_path, *sys.path_hooks) if one is not FINDER],
        "builtins": dict(vars(builtins)),
        "standard streams": (sys.stdout, sys.stderr),
        "sys.excepthook": sys.excepthook,
        "the recursion limit": sys.getrecursionlimit(),
        "garbage collection": (gc.isenabled(), gc.get_threshold()),
        "warnings filters": [*warnings.filters],
        "the root logger": (logging.root.level, [*logging.root.handlers]),
        "signal handlers": handlers,
        "the locale": locale.setlocale(locale.LC_ALL),
        "the decimal context": (decimals.prec, decimals.rounding, dict(decimals.traps)),
        "what becomes of subnormal numbers": sys.float_info.min / 2,
        "processors that may be used": usable(),
        "Python's random state": random.getstate(),
        "NumPy's random state": (of_numpy["key"].tobytes(), of_numpy["pos"]),
        "NumPy's error state": np.geterr(),
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's precision of products": torch.get_float32_matmul_precision(),
        "torch's settings of cuDNN": (
            *(cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision),
        ),
        "settings of torch's compiler": _compiler_settings(),
        "extensions built by torch": _built_extensions(),
        "operators registered with torch": dict.fromkeys(torch._C._dispatch_get_all_op_names()),
    }


def _compiler_settings() -> dict[str, Any]:
    """Return the settings of the parts of torch's compiler by their full names."""
    return {
        f"{name}.{setting}": value
        for name in COMPILER
        for setting, value in import_module(name).get_config_copy().items()
    }


def _built_extensions() -> dict[str, Any]:
    """Return what `torch.utils.cpp_extension.load` has built, which it keeps by name alone."""
    module = sys.modules.get("torch.utils.cpp_extension")
    return dict(module.JIT_EXTENSION_VERSIONER.entries) if module else {}


def _signals() -> list[int]:
    """Return the signals that have a name, of which real-time ones have none."""
    return [int(one) for one in signal.valid_signals() if isinstance(one, signal.Signals)]


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Name what differs between two states; nothing where that is nothing."""
    return ", ".join(_change(what, old, after[what]) for what, old in before.items()
                     if after[what] != old)  # fmt: skip


def _change(what: str, old: Any, new: Any) -> str:
    if not isinstance(old, dict):
        return what
    absent = object()
    names = [one for one in {**old, **new} if old.get(one, absent) != new.get(one, absent)]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{what} ({', '.join(sorted(names)[:MOST_NAMED])}{more})"


def shared_library(folders: Iterable[Path], loaded: Iterable[Path] | None = None) -> str | None:
    """Return a native library that is loaded for one version and not for another which has it too.

    The loader of the system takes it for loaded by its name. None where there is none.

    Args:
        folders: Where the versions' copies lie.
        loaded: The files of all libraries in this process, by default those that are.
    """
    code = loaded_code() if loaded is None else {*loaded}
    places = [folder.resolve() for folder in folders]
    own = [{one.relative_to(place) for one in code if one.is_relative_to(place)}
           for place in places]  # fmt: skip
    for name in sorted(set().union(*own)):
        if any(name not in some and (place / name).exists()
               for place, some in zip(places, own, strict=True)):  # fmt: skip
            return name.as_posix()
    return None
