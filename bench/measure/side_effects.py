"""What a call does beside its result: writes to its input, prints, forks, works on afterwards.

Each finding is a sentence in plain words; none of them by itself makes a result wrong but a write
to an input, and a result that lies in the input's memory.
"""

from __future__ import annotations

import ctypes
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any

import psutil
from torch import Tensor

from mlr import Problem
from mlr.case import INPUTS

from .timing import Call, busy_while_idle, cost_of_change

BUSY = 0.2  # CPU seconds per second of sleep that no honest thread takes
QUIET = 0.02  # what even a thread that waits for a core most of the time takes more of
MOST_CALLS = 5  # to tell quiet from work that waits for a core
SEEN_BEFORE = 3.0  # a changed input costs an honest call little more than caches of the processor
LONGEST_TOUCHED_S = 0.005  # a longer call is not held against changed inputs: too dear
_HOME = os.getpid()


class DeceitError(Exception):
    """A call whose result cannot count, for the reason given."""


def inputs_of(problem: Problem) -> list[tuple[str, Tensor]]:
    """Return the tensors that a call of the problem's stage may read and not write."""
    found: list[tuple[str, Tensor]] = []
    for name in INPUTS[problem.case.stage]:
        value = getattr(problem, name)
        if isinstance(value, Tensor):
            found.append((name, value))
        else:
            found += [(field, getattr(value, field)) for field in value._fields]
    return found


@contextmanager
def inputs_untouched(problem: Problem) -> Iterator[None]:
    """Hold the inputs after the calls inside against what they were before.

    The values tell what changed them by whatever way: torch, `.data`, NumPy, an address. torch's
    count of writes to a tensor and its views tells also of one that left the values as they were,
    or put them back; a write past torch that does so is not seen.

    Raises:
        DeceitError: If one changed, or was written to.
    """
    before = [(name, value, value.clone(), value._version) for name, value in inputs_of(problem)]
    yield
    for name, value, copy, version in before:
        if not value.equal(copy):
            raise DeceitError(f"changes its input {name}")
        if value._version != version:
            raise DeceitError(
                f"writes to its input {name}, which then has the values it had before"
            )


def require_own_memory(problem: Problem, result: object) -> None:
    """Hold the result of a gradient against living in the memory of its input.

    Raises:
        DeceitError: If it does.
    """
    if problem.case.stage != "gradient" or not isinstance(result, tuple):
        return
    inputs = {value.untyped_storage().data_ptr(): name for name, value in inputs_of(problem)}
    for value in result:
        if isinstance(value, Tensor) and value.numel():
            place = value.untyped_storage().data_ptr()
            if place in inputs:
                raise DeceitError(f"returns a view of its input {inputs[place]}")


def watch(call: Call) -> tuple[Any, list[str]]:
    """Call once; return the result and what was seen: printing, starting processes."""
    me = psutil.Process()
    before = {child.pid for child in me.children()}
    with forks_counted() as forks, _output_kept() as written:
        result = call()
    started = {child.pid for child in me.children()} - before
    seen = []
    if written():
        seen.append(f"writes to the terminal: {written()!r}")
    if forks or started:
        seen.append(f"starts {max(len(forks), len(started))} other process(es)")
    return result, seen


def works_on(call: Call) -> list[str]:
    """Say so if a call leaves work behind that goes on when it has returned.

    Twice in a row, for some threads wait awake a little while for more work. Where neither that nor
    quiet was seen, as on a loaded machine that leaves such work no core, it is called again.
    """
    for _ in range(MOST_CALLS):
        call()
        cores = busy_while_idle()
        if cores <= QUIET:
            break
        if cores > BUSY and busy_while_idle() > BUSY:
            return [
                f"works on after it has returned: {cores:.1f} cores busy while nothing was called"
            ]
    return []


def remembers(problem: Problem, call: Call, about_s: float) -> list[str]:
    """Say so if a call is far faster on inputs that it has seen before."""
    if problem.case.stage == "fit" or about_s > LONGEST_TOUCHED_S:
        return []
    x = inputs_of(problem)[0][1]
    other = x[:1].clone()
    ratio = cost_of_change(call, lambda: x[:1].neg_(), lambda: other.neg_(), problem.case.device)
    if ratio > SEEN_BEFORE:
        return [f"keeps results for inputs it has seen: {ratio:.1f} times slower on a changed one"]
    return []


def leave_if_forked() -> None:
    """End a process that a call forked from this one: it must not measure on."""
    if os.getpid() != _HOME:
        os._exit(0)


def leaving(call: Call) -> Call:
    """Return the call such that a process it forks ends there, and forks no other in turn."""

    def once() -> Any:
        try:
            return call()
        finally:
            leave_if_forked()

    return once


@contextmanager
def forks_counted() -> Iterator[list[int]]:
    """Collect one entry for each fork of this process by Python."""
    forks: list[int] = []
    _on_fork.append(forks)
    try:
        yield forks
    finally:
        _on_fork.remove(forks)


_on_fork: list[list[int]] = []


def _count_fork() -> None:
    for seen in _on_fork:
        seen.append(1)


os.register_at_fork(after_in_parent=_count_fork)


@contextmanager
def _output_kept() -> Iterator[Callable[[], str]]:
    """Keep off the terminal what is written to it, and return what that was.

    Taken are the descriptors 1 and 2, and those of `sys.stdout` and `sys.stderr`, which are others
    under pytest's capture; in the place of a stream that has none stands another meanwhile.
    """
    said, text = "", io.StringIO()
    with ExitStack() as streams, tempfile.TemporaryFile() as kept:
        numbers = {1, 2}
        for stream, replaced in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            try:
                numbers.add(stream.fileno())
            except OSError:
                streams.enter_context(replaced(text))
        with _redirected(numbers, kept.fileno()):
            yield lambda: said
        kept.seek(0)
        said = kept.read(80).decode(errors="replace") + text.getvalue()[:80]


@contextmanager
def _redirected(numbers: set[int], target: int) -> Iterator[None]:
    """Let what is written to some descriptors go to another one."""
    _flush()
    held = {number: os.dup(number) for number in numbers}
    try:
        for number in numbers:
            os.dup2(target, number, inheritable=os.get_inheritable(number))
        yield
    finally:
        _flush()
        for number, copy in held.items():
            os.dup2(copy, number, inheritable=os.get_inheritable(number))
            os.close(copy)


def _flush() -> None:
    """Let what Python and C have buffered reach its descriptor."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with suppress(ValueError):  # one that is closed
            if stream is not None:
                stream.flush()
    ctypes.CDLL(None).fflush(None)
