"""The counts of a call: what is added is seen, and what varies is left out."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count

import pytest
import torch
from paths import ROOT

from bench.measure.work import CALL_COUNTS, count_work

KERNELS = ["matmul", "einsum", "func_vjp", "one_pass", "auto", "torch_nn", "LinearRegression"]
PROGRAM = f"""
import json
from mlr import Case, Problem, get_kernel
from bench.measure.work import count_work
found = {{}}
for name in {KERNELS}:
    kernel = get_kernel(name)
    case = Case(kernel.operation, "cpu", "float64", 33, 6, 3)
    call = kernel.bind(Problem(case))
    call()
    found[name] = count_work(call, kernel.generated_assembly(case))
print(json.dumps(found))
"""

X, DELTA = torch.ones(33, 6, dtype=torch.float64), torch.ones(33, 3, dtype=torch.float64)


def work(more: Callable[[], object] | None = None) -> dict[str, int]:
    """Count the work of a gradient by one product, and of what is done before it."""

    def call() -> object:
        if more is not None:
            more()
        return X.T @ DELTA, DELTA.sum(0)

    call()
    return count_work(call, None)


def added(more: Callable[[], object]) -> dict[str, int]:
    before = work()
    return {name: n - before[name] for name, n in work(more).items() if n != before[name]}


def nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (nothing, {"function_calls": 1}),
        (lambda: len(""), {"function_calls": 2}),
        (lambda: DELTA.zero_(), {"function_calls": 2, "operators": 1}),
        (
            lambda: torch.empty(10, dtype=torch.uint8),
            {"function_calls": 2, "operators": 1, "allocations": 1, "allocated_bytes": 10},
        ),
    ],
)
def test_one_more_of_anything_is_told_from_an_unchanged_call(
    more: Callable[[], object], expected: dict[str, int]
) -> None:
    assert work() == work()
    assert set(work()) == set(CALL_COUNTS)
    assert added(more) == expected


def test_a_larger_allocation_is_seen_where_their_count_is_the_same() -> None:
    small, large = (work(lambda size=size: torch.empty(size)) for size in (10, 11))
    assert large.pop("allocated_bytes") - small.pop("allocated_bytes") == 4
    assert small == large


def test_what_differs_from_call_to_call_is_no_count() -> None:
    calls = count()
    found = work(lambda: [DELTA.neg() for _ in range(next(calls))])
    assert found == {}
    rarely = work(lambda: [nothing() for _ in range(next(calls) % 2)])
    assert set(rarely) == set(CALL_COUNTS) - {"function_calls"}


@pytest.mark.slow
def test_the_counts_are_the_same_in_processes_with_other_hash_seeds() -> None:
    command, started = [sys.executable, "-c", PROGRAM], []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE))
    outputs = [json.loads(process.communicate()[0]) for process in started]
    assert outputs[0] == outputs[1]
    assert all(set(CALL_COUNTS) <= set(found) for found in outputs[0].values())
    assert outputs[0]["one_pass"]["loop_multiply_adds"] > 0
    assert outputs[0]["auto"]["loop_loads"] == outputs[0]["one_pass"]["loop_loads"]
    assert "loop_loads" not in outputs[0]["matmul"]


def test_a_profiler_of_the_user_is_put_back_whatever_happens() -> None:
    def fail() -> None:
        raise ValueError("a kernel's own")

    def own(*_: object) -> None: ...

    before = sys.getprofile()
    sys.setprofile(own)
    try:
        with pytest.raises(ValueError, match="own"):
            count_work(fail, None)
        assert sys.getprofile() is own
    finally:
        sys.setprofile(before)
