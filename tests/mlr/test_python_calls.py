"""Python functions that call compiled code: what they hand over, refuse, hold and let go on."""

import ctypes
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest
import torch
from paths import ROOT

from mlr.one_pass import compile as compiler
from mlr.one_pass.codegen import Argument
from mlr.one_pass.compile import _through
from mlr.one_pass.python_calls import Integers, make_function

Sweep = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_int64))


@pytest.fixture
def seen() -> list[list[int]]:
    """What each call hands over."""
    return []


@pytest.fixture
def call(seen: list[list[int]]) -> Iterator[Integers]:
    """A call of code that writes down what it is given."""
    sweep = Sweep(lambda numbers: seen.append(numbers[: len(Argument)]))
    address = ctypes.cast(sweep, ctypes.c_void_p).value
    assert address is not None
    yield make_function(_through(), address)  # noqa: PT022 - the sweep lives until then


def test_numbers_arrive_in_order_and_those_left_out_are_zero(
    call: Integers, seen: list[list[int]]
) -> None:
    length = len(Argument)
    for given in ([], [7], [-1, 2**63 - 1, -(2**63)], [*range(length)]):
        assert call(*given) is None
        assert seen.pop() == given + [0] * (length - len(given))
    call(*range(length), object(), "not looked at")
    assert seen.pop() == [*range(length)]


@pytest.mark.parametrize("wrong", [1.5, "1", None, 2**63, torch.ones(2)])
def test_what_is_no_number_is_refused_and_nothing_called(
    wrong: object, call: Integers, seen: list[list[int]]
) -> None:
    for place in (0, 3):
        given = [1, 2, 3, 4]
        given[place] = wrong  # type: ignore[call-overload]
        with pytest.raises((TypeError, OverflowError, RuntimeError)):
            call(*given)
    with pytest.raises(TypeError, match="keyword"):
        call(rows=3)
    assert seen == []


def test_it_takes_and_leaves_no_references(call: Integers) -> None:
    number = 2**40 + 1
    before = sys.getrefcount(number), sys.getrefcount(call)
    for _ in range(1_000):
        call(number, number)
    assert (sys.getrefcount(number), sys.getrefcount(call)) == before
    if sys.version_info < (3, 12):  # later on None is not counted
        before = sys.getrefcount(None), 0
        for _ in range(1_000):
            call(number)
        assert abs(sys.getrefcount(None) - before[0]) < 500


def test_other_threads_go_on_while_compiled_code_runs() -> None:
    x, y = torch.randn(200_000, 6), torch.randn(200_000, 3)
    weight, bias = torch.zeros(6, 3), torch.zeros(3)
    run = compiler.compile_kernel("step", len(x), 6, 3, "float32").call
    places = [value.data_ptr() for value in (x, y, weight, bias, bias)]
    steps, stop = count(), threading.Event()

    def other() -> None:
        while not stop.is_set():
            next(steps)
            time.sleep(0)

    thread = threading.Thread(target=other)
    thread.start()
    run(*places, len(x), 1)
    first = next(steps)
    switch = sys.getswitchinterval()
    try:
        sys.setswitchinterval(1_000)  # nobody is made to let another go on
        for _ in range(50):
            run(*places, len(x), 1)
        assert next(steps) > first + 1
    finally:
        sys.setswitchinterval(switch)
        stop.set()
        thread.join()


def test_a_thread_in_compiled_code_does_not_hold_up_the_end_of_the_process() -> None:
    """It is ended on its way out of compiled code, where it asks for Python's lock.

    Four forks of one process end so, one after the other.
    """
    program = """
import os, sys, threading, torch
from mlr.one_pass import bind
x, y = torch.randn(5_000, 6), torch.randn(5_000, 3)
step = bind.bind_step(x, y, torch.zeros(6, 3), torch.zeros(3), 0.0)
step()
for _ in range(4):
    if (child := os.fork()) == 0:
        break
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(code)
else:
    sys.exit()
def repeat():
    while True:
        step()
for _ in range(3):
    threading.Thread(target=repeat, daemon=True).start()
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
