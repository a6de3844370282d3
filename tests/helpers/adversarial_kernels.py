"""Kernels that cheat, each in its own way; test_attacks loads them as a user's file."""

import ctypes
import gc
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import mlr
from bench.measure.timing import repeats_of
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


def remembering(
    same: Callable[[torch.Tensor, torch.Tensor], object], *, after: int = 0, work: int = 1
) -> Any:
    """Return a function that keeps its result while `same` says so, and has so many times before.

    It does its work several times over where nothing but the time tells that it was left out.
    """
    held: dict[str, Any] = {"key": None, "seen": 0}

    def run(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
        key = same(x, delta)
        held["seen"] = held["seen"] + 1 if key == held["key"] else 0
        if held["seen"] <= after:
            for _ in range(work):
                held["found"] = honest(x, delta)
        held["key"] = key
        return held["found"]

    return run


def content(x: torch.Tensor, delta: torch.Tensor) -> object:
    """Return all of the inputs, in a form that is fast to make and to compare."""
    return x.numpy().tobytes(), delta.numpy().tobytes()


def versions(x: torch.Tensor, delta: torch.Tensor) -> object:
    return x.data_ptr(), x._version, delta._version


def register(name: str, run: Any) -> None:
    run.__name__ = name
    gradient(run)


def of_a_few(x: torch.Tensor, delta: torch.Tensor) -> object:
    return float(x[0, 0]), float(x[-1, -1]), float(delta[0, 0]), float(delta[-1, -1])


def in_a_timed_loop(names: tuple[str, ...]) -> bool:
    """Say whether one of these functions is among the callers."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in names:
            return True
        frame = frame.f_back
    return False


register("keeps_by_version", remembering(versions))
register("keeps_by_version_after_50_calls", remembering(versions, after=50))
register("keeps_by_version_after_2000_calls", remembering(versions, after=2_000))
register("keeps_by_content", remembering(content, work=20))
register("keeps_by_content_after_50_calls", remembering(content, after=50, work=6))
register("keeps_by_a_few_numbers", remembering(of_a_few, after=50))
register("keeps_by_shape", remembering(lambda x, delta: (x.shape, delta.shape), after=50))


@gradient
def keeps_in_a_timed_loop(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    """Compute wherever it is called but by the loop that times it in turns."""
    if "turns" not in known or not in_a_timed_loop(("time_batch",)):
        known["turns"] = honest(x, delta)
    return known["turns"]


@gradient
def keeps_in_the_engines_loop(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    """Compute wherever it is called but by pytest-benchmark's loop."""
    if "engine" not in known or not in_a_timed_loop(("runner",)):
        for _ in range(50):
            known["engine"] = honest(x, delta)
    return known["engine"]


@gradient
def works_where_it_is_checked(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    """Compute only where the oracle is among the callers."""
    if "checked" not in known or in_a_timed_loop(("_check",)):
        known["checked"] = honest(x, delta)
    return known["checked"]


@gradient
def takes_what_memory_holds(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    """Hope that the allocator hands out the memory of the last result again."""
    n, o = x.shape[1], delta.shape[1]
    if count("takes_what_memory_holds") == 1:
        return honest(x, delta)
    return Gradient(torch.empty(n, o, dtype=x.dtype), torch.empty(o, dtype=x.dtype))


@gradient
def hands_out_the_wrong_memory(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    """Return one result's memory again and again, and fill it in the first calls only."""
    if "memory" not in known:
        known["memory"] = honest(x, delta)
    if count("hands_out_the_wrong_memory") < 100:
        for held, value in zip(known["memory"], honest(x, delta), strict=True):
            held.copy_(value)
    return known["memory"]


class LazyTensor(torch.Tensor):
    """A tensor that computes when something is asked of it."""

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute what the tensor stands for, and do with that what was asked."""
        args = [one.inputs() if isinstance(one, LazyTensor) else one for one in args]
        return function(*args, **(kwargs or {}))


@gradient
def returns_lazy_tensors(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    found = []
    for place, shape in enumerate([(x.shape[1], delta.shape[1]), (delta.shape[1],)]):
        found.append(torch.empty(shape).as_subclass(LazyTensor))
        found[-1].inputs = lambda place=place: honest(x, delta)[place]
    return Gradient(*found)


@gradient
def returns_a_lazy_tuple(x: torch.Tensor, delta: torch.Tensor) -> tuple[torch.Tensor, ...]:
    class Lazy(tuple):
        def __iter__(self) -> Any:
            return iter(honest(x, delta))

    return Lazy((torch.zeros(x.shape[1], delta.shape[1]), torch.zeros(delta.shape[1])))


@gradient
def gives_its_result_another_method(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    found = Gradient(torch.zeros(x.shape[1], delta.shape[1]), torch.zeros(delta.shape[1]))
    for place, value in enumerate(found):
        for method in ("double", "clone"):
            setattr(value, method, lambda place=place: honest(x, delta)[place].double())
    return found


@gradient
def returns_before_its_thread_is_done(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    """Leave the work to a thread that ends before anybody looks, if they take a millisecond."""
    empty = Gradient(torch.zeros(x.shape[1], delta.shape[1]), torch.zeros(delta.shape[1]))

    def work() -> None:
        real_sleep(0.0005)
        for into, value in zip(empty, honest(x, delta), strict=True):
            into.copy_(value)

    threading.Thread(target=work).start()
    return empty


def copy_from_others(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    """Look for the expected result among all tensors of the process, and copy it."""
    shape = (x.shape[1], delta.shape[1])
    for one in gc.get_objects():
        if type(one) is torch.Tensor and one.shape == shape and one.dtype == torch.float64:
            bias = torch.zeros(delta.shape[1])
            return Gradient(one.to(x.dtype), bias)
    return honest(x, delta) if count("others") == 1 else Gradient(torch.zeros(shape), delta.sum(0))


register("copies_the_expected_result", copy_from_others)


def in_place(change: Callable[[], object], name: str) -> None:
    """Register a kernel that is honest, but replaces something in each call."""

    def run(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
        change()
        return honest(x, delta)

    register(name, run)


in_place(lambda: setattr(torch, "isfinite", lambda value: torch.ones(1).bool()), "puts_isfinite")
in_place(lambda: setattr(torch, "equal", lambda one, other: True), "puts_torch_equal")
in_place(lambda: setattr(torch.Tensor, "equal", lambda one, other: True), "puts_tensor_equal")
in_place(lambda: setattr(torch.Tensor, "max", lambda value: 0.0), "puts_tensor_max")
in_place(lambda: setattr(mlr.oracle, "_compare", lambda *_: mlr.Check(0, 1, None)), "puts_a_check")
in_place(lambda: setattr(mlr.oracle, "max", lambda *_: 0.0), "hides_a_builtin")
in_place(
    lambda: object.__setattr__(mlr.OPERATIONS["gradient"], "oracle", lambda problem, calls: 0),
    "puts_an_oracle",
)
in_place(
    lambda: object.__setattr__(mlr.KERNELS["autograd"], "function", real_sleep), "puts_a_baseline"
)
in_place(
    lambda: setattr(repeats_of, "__code__", (lambda seconds, batch_s=0: 1).__code__), "puts_code"
)


@gradient
def slows_the_engines_clock(x: torch.Tensor, delta: torch.Tensor) -> Gradient:
    """Find pytest-benchmark's fixture among all objects, and give it a clock that runs slowly."""
    if count("slows_the_engines_clock") == 5:
        for one in gc.get_objects():
            if type(one).__name__ == "BenchmarkFixture":
                one._timer = lambda clock=time.perf_counter: clock() / 50
    for _ in range(20):
        found = honest(x, delta)
    return found


@kernel(operation="step", **costs)
def computes_at_bind_time(problem: Problem) -> Callable[[], None]:
    """Know the gradient of the first step when it is bound, and make every step that one."""
    delta = (problem.x @ problem.weight + problem.bias - problem.y) * 2 / problem.y.numel()
    found = honest(problem.x, delta)

    def step() -> None:
        problem.weight -= problem.lr * found.weight
        problem.bias -= problem.lr * found.bias

    return step


def step_of(problem: Problem) -> None:
    delta = (problem.x @ problem.weight + problem.bias - problem.y) * 2 / problem.y.numel()
    found = honest(problem.x, delta)
    problem.weight -= problem.lr * found.weight
    problem.bias -= problem.lr * found.bias


@kernel(operation="step", **costs)
def keeps_by_seed(problem: Problem) -> Callable[[], None]:
    """Step on copies of the inputs, made anew when the problem says that it has another seed."""
    held = problem.share_inputs()
    of: list[Any] = [None, None]

    def step() -> None:
        if of[0] != problem.seed:
            of[:] = problem.seed, problem.x.T @ problem.x
            held.__dict__["xy"] = problem.x.T @ problem.y
            held.__dict__["sums"] = problem.x.sum(0), problem.y.sum(0)
        rate = 2 * problem.lr / problem.y.numel()
        sums, weight, bias = held.__dict__["sums"], problem.weight, problem.bias
        by_weight = of[1] @ weight + torch.outer(sums[0], bias) - held.__dict__["xy"]
        by_bias = sums[0] @ weight + len(problem.y) * bias - sums[1]
        problem.weight -= rate * by_weight
        problem.bias -= rate * by_bias

    return step


@kernel(operation="step", **costs)
def stops_until_it_is_reset(problem: Problem) -> Callable[[], None]:
    """Step until it has been called often on from where it was itself, as no check does."""
    held: dict[str, Any] = {"last": None, "seen": 0}

    def step() -> None:
        goes_on = float(problem.weight[0, 0]) == held["last"]
        held["seen"] = held["seen"] + 1 if goes_on else 0
        if held["seen"] < 20:
            step_of(problem)
        held["last"] = float(problem.weight[0, 0])

    return step


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
