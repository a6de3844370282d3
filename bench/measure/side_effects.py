"""What a call does beside its result: writes to its input, prints, works on afterwards.

Printing and starting a process is a warning, a sentence; all else makes a result wrong.
"""

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any

import psutil
import torch
from torch import Tensor

from mlr import OPERATIONS, Check, Problem

from ..machine.devices import Call
from .timing import background_cpu_usage

BUSY = 0.2  # CPU seconds per second of sleep that no honest thread takes
QUIET = 0.02  # what even a thread that waits for a core most of the time takes more of
AWAKE_LOOKS = 6  # of several threads: OpenBLAS's wait awake for 0.1 s, MKL's for 0.2 s
MAX_CALLS = 5  # to tell quiet from work that waits for a core


class WrongResultError(Exception):
    """A result that is not the oracle's, or whose call breaks the kernel contract."""


def require_right(result: Check, when: str = "") -> None:
    """Raise `WrongResultError` with the reason why a result is wrong, if it is."""
    if result.reason is not None:
        raise WrongResultError(when + result.reason)


def inputs_of(problem: Problem) -> list[tuple[str, Tensor]]:
    """Return the tensors that a call of the problem's operation may read and not write."""
    found: list[tuple[str, Tensor]] = []
    for name in OPERATIONS[problem.case.operation].inputs:
        value = getattr(problem, name)
        found += [(name, value)] if isinstance(value, Tensor) else value._asdict().items()
    return found


@contextmanager
def inputs_untouched(problem: Problem) -> Iterator[None]:
    """Compare the inputs after the calls inside with what they were before.

    The values tell what changed them by whatever way: torch, `.data`, NumPy, an address. torch's
    count of writes to a tensor and its views tells also of one that left the values as they were,
    or put them back; a write past torch that does so is not seen.

    Raises `WrongResultError` if one changed, or was written to.
    """
    before = [(name, value, value.clone(), value._version) for name, value in inputs_of(problem)]
    yield
    for name, value, copy, version in before:
        if not value.equal(copy):
            raise WrongResultError(f"changes its input {name}")
        if value._version != version:
            raise WrongResultError(
                f"writes to its input {name}, which then has the values it had before"
            )


def require_own_memory(problem: Problem, result: object) -> None:
    """Raise `WrongResultError` if a result that is returned lives in the memory of its input."""
    returned = result if isinstance(result, tuple) else (result,)
    if OPERATIONS[problem.case.operation].trains:
        return
    inputs = {value.untyped_storage().data_ptr(): name for name, value in inputs_of(problem)}
    for value in returned:
        if isinstance(value, Tensor) and value.numel():
            place = value.untyped_storage().data_ptr()
            if place in inputs:
                raise WrongResultError(f"returns a view of its input {inputs[place]}")


def observe_side_effects(call: Call) -> tuple[Any, list[str]]:
    """Call once; return the result and what was seen: printing, starting processes."""
    me = psutil.Process()
    before = {child.pid for child in me.children()}
    with _output_captured() as written:
        result = call()
    started = {child.pid for child in me.children()} - before
    seen = [f"writes to the terminal: {text!r}" for text in written]
    if started:
        seen.append(f"starts {len(started)} other process(es)")
    return result, seen


def require_no_background_work(call: Call) -> None:
    """Raise `WrongResultError` if a call leaves work behind that goes on when it has returned.

    Twice in a row, for some threads wait awake a little while for more work; for longer where a
    library may have several. Where neither that nor quiet was seen, as on a loaded machine that
    leaves such work no core, it is called again.
    """
    looks = 1 if torch.get_num_threads() == 1 else AWAKE_LOOKS
    for _ in range(MAX_CALLS):
        call()
        cores = background_cpu_usage()
        if cores <= QUIET:
            break
        if cores > BUSY and all(background_cpu_usage() > BUSY for _ in range(looks)):
            busy = f"{cores:.1f} cores busy while nothing was called"
            raise WrongResultError(f"works on after it has returned: {busy}")


@contextmanager
def _output_captured() -> Iterator[list[str]]:
    """Keep what is written to the terminal off it, and list what that was once it is over.

    It captures the descriptors 1 and 2, and `sys.stdout` and `sys.stderr` with what these write to,
    which is another place under pytest's capture.
    """
    said: list[str] = []
    numbers = {1, 2}
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a stream in memory has no descriptor
            numbers.add(stream.fileno())
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        _flush()
        held = {number: os.dup(number) for number in numbers}
        try:
            for number in numbers:
                os.dup2(file.fileno(), number, os.get_inheritable(number))
            with redirect_stdout(file), redirect_stderr(file):
                yield said
        finally:
            _flush()
            for number, copy in held.items():
                os.dup2(copy, number, os.get_inheritable(number))
                os.close(copy)
        file.seek(0)  # once what is still in its buffer is written
        said += filter(None, [file.read(80)])


def _flush() -> None:
    for stream in filter(None, (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)):
        with suppress(ValueError):  # one that is closed
            stream.flush()
    ctypes.CDLL(None).fflush(None)
