"""Kernels that cheat, each in its own way; test_attacks loads them as a user's file."""

import ctypes
import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mlr import Gradient, Kernel, Problem, kernel

costs: dict[str, Any] = {
    "flops": lambda m, n, o, s: 2 * m * n * o,
    "bytes_moved": lambda m, n, o, s: (m * n + m * o + n * o + o) * s,
    "workspace": lambda m, n, o, s: 0,
}
gradient = kernel(operation="gradient", **costs)
known: dict[Any, Gradient] = {}
kept: list[Any] = []
calls: dict[str, int] = {}
real_sleep = time.sleep  # another kernel puts its own in its place


def honest(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    return Gradient(x.T @ delta, delta.sum(0))


def count(name: str) -> int:
    calls[name] = calls.get(name, 0) + 1
    return calls[name]


def beside(act: Callable[[torch.Tensor, torch.Tensor, Gradient], object]) -> Kernel:
    """Register a kernel that is honest, but for what it does before it returns."""

    def run(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
        found = honest(x, delta)
        act(x, delta, found)
        return found

    run.__name__ = act.__name__
    return gradient(run)


@beside
def wrong_in_one_element(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    found.weight[-1, -1] *= 1 + 1e-5


@gradient
def right_for_the_checked_input(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    if "sum" not in known:
        known["sum"] = Gradient(x.sum(), delta.sum())
    found = honest(x, delta)
    return found if bool(x.sum() == known["sum"].weight) else Gradient(found.weight * 2, found.bias)


@gradient
def caches_by_identity(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    key = id(x)
    if key not in known:
        known[key] = honest(x, delta)
    return known[key]


@gradient
def caches_by_version(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    key = (id(x), x._version, delta._version)
    if key not in known:
        for _ in range(20):  # so much work that not doing it shows
            known[key] = honest(x, delta)
    return known[key]


@gradient
def returns_a_view(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    found = honest(x, delta)
    place = x.view(-1)[: found.weight.numel()].view_as(found.weight)
    place.copy_(found.weight)
    return Gradient(place, found.bias)


@beside
def changes_its_input(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    delta.numpy()[0, 0] += 1.0


@beside
def writes_equal_values(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    x.mul_(1.0)


@beside
def borrows_its_input(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    """Use a part of it as memory, and put back what was there."""
    held = delta[:1].clone()
    delta[:1].zero_()
    delta[:1].copy_(held)


@beside
def sleeps_when_timed(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    if count("sleeps_when_timed") > 4:
        real_sleep(0.001)


@gradient
def works_in_the_first_call_only(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    if "first" not in known:
        known["first"] = honest(x, delta)
    return known["first"]


@beside
def goes_on_in_a_thread(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    """Leave so many threads at work that a busy machine shows it too."""

    def work() -> None:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            hashlib.sha256(bytes(2**18))  # which lets go of the interpreter

    if not any(thread.is_alive() for thread in kept if isinstance(thread, threading.Thread)):
        for _ in range(6):
            kept.append(threading.Thread(target=work, daemon=True))
            kept[-1].start()


@gradient
def fills_its_result_later(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    found = honest(x, delta)
    empty = Gradient(torch.zeros_like(found.weight), found.bias)
    threading.Timer(0.3, lambda: empty.weight.copy_(found.weight)).start()
    return empty


@kernel(operation="gradient", dtypes=("float32",), **costs)
def returns_float16(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    found = honest(x, delta)
    return Gradient(found.weight.half(), found.bias.half())


@kernel(operation="gradient", dtypes=("float32",), **costs)
def computes_in_float16(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    found = honest(x.bfloat16(), delta.bfloat16())
    return Gradient(found.weight.float(), found.bias.float())


@beside
def returns_nan(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    found.bias[0] = float("nan")


@beside
def takes_a_gibibyte(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    torch.empty(2**30, dtype=torch.uint8)


@beside
def allocates_in_numpy(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    np.ones(2**20)


@beside
def allocates_in_c(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    place = libc.malloc(ctypes.c_size_t(2**25))
    ctypes.memset(place, 1, 2**25)
    libc.free(ctypes.c_void_p(place))


@beside
def leaks(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    kept.append(torch.empty(1_000, dtype=torch.uint8))


@beside
def prints(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    os.write(1, b"look at me\n")


@beside
def prints_by_python(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    print("look at me")


@beside
def starts_a_process(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    if count("starts_a_process") == 1:
        kept.append(subprocess.Popen(["sleep", "1"]))


@beside
def wrong_once_it_is_timed(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    if count("wrong_once_it_is_timed") > 10:  # more often than it is called while it is checked
        found.weight.zero_()


@beside
def raises_on_the_third_call(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    if count("raises") == 3:
        raise RuntimeError("three is enough")


@beside
def runs_for_ever(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    while True:
        time.sleep(1)


@beside
def segfaults(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    ctypes.string_at(0)


@beside
def puts_another_clock(x: torch.Tensor, delta: torch.Tensor, found: Gradient) -> None:
    time.perf_counter = lambda: 0.0
    time.sleep = lambda seconds: None


@kernel(operation="step", **costs)
def steps_once(problem: Problem) -> Callable[[], None]:
    """Do one right step and none after it."""

    def step() -> None:
        if count("steps_once") > 1:
            return
        delta = (problem.x @ problem.weight + problem.bias - problem.y) * 2 / problem.y.numel()
        found = honest(problem.x, delta)
        problem.weight -= problem.lr * found.weight
        problem.bias -= problem.lr * found.bias

    return step


@kernel(operation="step", **costs)
def has_a_rate_of_its_own(problem: Problem) -> Callable[[], None]:
    """Step with the learning rate that a problem of more rows than features ordinarily has."""

    def step() -> None:
        delta = (problem.x @ problem.weight + problem.bias - problem.y) * 2 / problem.y.numel()
        found = honest(problem.x, delta)
        problem.weight -= 0.01 * found.weight
        problem.bias -= 0.01 * found.bias

    return step
