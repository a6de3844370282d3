"""Kernels and operations of NumPy arrays: on the tensors' own memory, and right as any other."""

import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from bench.measure.memory import measure_memory
from mlr import KERNELS, OPERATIONS, Case, Gradient, Kernel, Problem, check, kernel, operation
from mlr.arrays import tensors
from mlr.oracle import check_on_other_inputs
from mlr.registry import DEVICE_TYPES

pytestmark = pytest.mark.usefixtures("as_users_call_it")
COST = {"flops": lambda m, n, o, s: 1, "workspace": lambda m, n, o, s: 0}


def declared(function: Any, **more: Any) -> Kernel:
    """Declare a kernel of the gradient in NumPy."""
    kernel(operation="gradient", numpy=True, **(COST | more))(function)
    return KERNELS[function.__name__]


def matmul_of_arrays(x: np.ndarray, delta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.T @ delta, delta.sum(0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_kernel_of_arrays_is_right_on_all_that_a_kernel_is_checked_on(dtype: str) -> None:
    found = declared(matmul_of_arrays)
    problem = Problem(Case("gradient", "cpu", dtype, 33, 6, 3))
    call = found.bind(problem)
    assert check(found, problem, call).ok
    assert check_on_other_inputs(found, problem, call, 7).ok
    assert all(type(one) is torch.Tensor for one in call())
    assert measure_memory(found, problem.case).leak_bytes == 0


def test_its_arrays_are_the_memory_of_the_inputs() -> None:
    seen: list[np.ndarray] = []

    def looking(x: np.ndarray, delta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.extend((x, delta))
        return matmul_of_arrays(x, delta)

    problem = Problem(Case("gradient", "cpu", "float64", 5, 3, 2))
    found = declared(looking).bind(problem)()
    assert [one.ctypes.data for one in seen] == [problem.x.data_ptr(), problem.delta.data_ptr()]
    assert Gradient(*found).weight.shape == (3, 2)


@pytest.mark.parametrize(
    ("found", "kind"),
    [(3.5, "float"), ([np.ones(2)], "list"), ((np.ones(2), torch.ones(2)), "Tensor")],
)
def test_a_result_that_is_no_array_is_one_clear_line(found: Any, kind: str) -> None:
    with pytest.raises(TypeError, match="a function returns an array, or a tuple of") as caught:
        tensors(found)
    assert f"; got {kind}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[::-1],
        lambda x: np.flip(x, 1),
        lambda x: x.T[::2, ::-1],
        lambda x: np.broadcast_to(x[0], (4, 3)),  # read-only
        lambda x: np.ones(4, "u1,f8")["f1"],
        lambda x: x,
    ],
)
def test_any_view_of_an_array_is_a_result_of_its_values(view: Any) -> None:
    array = view(np.arange(12.0).reshape(4, 3))
    held = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # torch warns of what is read-only once in a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = tensors(array)
    finally:
        torch.set_warn_always(held)
    np.testing.assert_array_equal(found.numpy(), array)
    shares = all(step >= 0 and step % 8 == 0 for step in array.strides)
    assert (found.data_ptr() == array.ctypes.data) == shares


def test_another_byte_order_is_one_clear_line() -> None:
    with pytest.raises(TypeError, match="in the machine's byte order; got >f4; return them by"):
        tensors(np.ones(3, ">f4"))


def test_what_numpy_returns_of_a_sum_is_a_result_and_a_wrong_one_is_wrong() -> None:
    assert tensors(np.ones(3).sum()).shape == ()
    assert tensors(None) is None

    def of_one_row(x: np.ndarray, delta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x.T @ delta, delta[0]

    wrong = declared(of_one_row)
    problem = Problem(Case("gradient", "cpu", "float64", 5, 3, 2))
    assert "against the oracle" in str(check(wrong, problem, wrong.bind(problem)).reason)


def test_a_case_of_another_device_is_unsupported_with_a_reason() -> None:
    case = Case("gradient", DEVICE_TYPES[1], "float64", 5, 3, 2)
    assert declared(matmul_of_arrays).unsupported(case) == "matmul_of_arrays runs on cpu only"


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (
            {"operation": "step"},
            "a kernel is a function of the inputs; matmul_of_arrays of step is",
        ),
        ({"operation": "fit"}, "leave numpy out, and take problem.x.numpy()"),
        ({"binds": True}, "matmul_of_arrays of gradient is given the problem"),
        ({"devices": DEVICE_TYPES[1:]}, "a kernel runs on cpu; got other devices; leave them out"),
        ({"dtypes": ("bfloat16",)}, "NumPy has float16, float32, float64; got bfloat16"),
    ],
)
def test_a_kernel_that_would_be_given_no_arrays_is_refused(more: dict[str, Any], part: str) -> None:
    before = dict(KERNELS)
    with pytest.raises(ValueError, match=re.escape(part)):
        kernel(**({"operation": "gradient", "numpy": True} | COST | more))(matmul_of_arrays)
    assert before == KERNELS


def declare_own(**parts: Any) -> str:
    """Declare an operation in NumPy, and a baseline that adds in place where it has a state."""

    def inputs(case: Case, random: np.random.Generator) -> dict[str, Any]:
        return {"x": random.standard_normal(case.n), "order": random.permutation(case.n)}

    def oracle(x: np.ndarray, order: np.ndarray) -> np.ndarray:
        return 2 * x[order]

    content = {"inputs": inputs, "oracle": oracle} | parts.pop("content", {})
    operation(axes={"n": (4, 50)}, numpy=True, **parts)(type("own", (), content))
    return "own"


def test_an_operation_of_arrays_needs_no_torch() -> None:
    name = declare_own()

    def doubled(x: np.ndarray, order: np.ndarray) -> np.ndarray:
        return (x + x)[order]

    kernel(operation=name, baseline=True, numpy=True)(doubled)
    found = KERNELS[f"{name}.doubled"]
    for dtype in ("float32", "float64"):
        problem = Problem(Case(name, "cpu", dtype, 9))
        call = found.bind(problem)
        assert check(found, problem, call).ok
        assert check_on_other_inputs(found, problem, call, 3).ok
    assert OPERATIONS[name].results(1_000_000) is None  # nothing is computed to plan a case
    assert Problem(Case(name, "cpu", "float64", 9)).x.equal(Problem(problem.case).x)


def test_a_state_of_arrays_is_changed_in_place() -> None:
    name = declare_own(state=("x",), content={"oracle": lambda x, order: x + 1})

    def add(x: np.ndarray, order: np.ndarray) -> None:
        x += 1

    kernel(operation=name, baseline=True, numpy=True)(add)
    found, problem = KERNELS[f"{name}.add"], Problem(Case(name, "cpu", "float64", 9))
    call = found.bind(problem)
    assert check(found, problem, call).ok
    assert check_on_other_inputs(found, problem, call, 3).ok


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"oracle": lambda x, order: [x]}, "oracle must work .* a tuple of arrays; got list"),
        ({"oracle": lambda x, order: x.astype("float32")}, "in float64; got torch.float32"),
        ({"inputs": lambda case, random: {"x": [1.0]}}, "inputs must work .* got list; return"),
        ({"inputs": lambda case, random: [1.0]}, "a dictionary of tensors by name; got list"),
        ({"inputs": lambda case, random: {"x": random.random(4, "f4")}}, "x is torch.float32"),
    ],
)
def test_what_declares_no_operation_of_arrays_is_one_line(
    content: dict[str, Any], part: str
) -> None:
    with pytest.raises(ValueError, match=part) as caught:
        declare_own(content=content)
    assert "\n" not in str(caught.value)
    assert "own" not in OPERATIONS
