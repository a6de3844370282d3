"""What all code of a process shares, so that a package which changes it changes it for others too.

Two versions of such a package, loaded into one process, would be measured under what the later one
has set. Here is what can be looked at cheaply.
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
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch

from ..machine.cores import usable
from .imports import FINDER

MOST_NAMED = 3  # of variables, handlers or operators in a message


def process_state() -> dict[str, Any]:
    """Return what a process has now, by what a message calls it.

    What torch imports when it first traces or compiles is imported before: it changes much of this.
    """
    import_module("torch._inductor.compile_fx")  # takes seconds
    with import_module("torch._subclasses.fake_tensor").FakeTensorMode():
        torch.ones(1).sin()
    decimals = decimal.getcontext()
    of_numpy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002  a package may draw of it
    handlers = {signal.Signals(one).name: signal.getsignal(one) for one in _signals()}
    return {
        "environment variables": dict(os.environ),
        "the current folder": os.getcwd(),
        "sys.path": [*sys.path],
        "import hooks": [one for one in sys.meta_path if one is not FINDER],
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
        "operators registered with torch": dict.fromkeys(torch._C._dispatch_get_all_op_names()),
    }


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
