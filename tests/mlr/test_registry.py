"""The table of kernels, and kernels from a user's own file."""

import re
from pathlib import Path

import pytest
from paths import ROOT

from mlr import (
    KERNELS,
    OPERATIONS,
    Case,
    KernelFileError,
    Problem,
    baseline_of,
    check,
    check_on_other_inputs,
    get_kernel,
    kernel,
    load_kernels,
    register_operation,
)

HEADER = """
from mlr import Gradient, kernel
costs = dict(
    flops=lambda m, n, o, s: m, bytes_moved=lambda m, n, o, s: m, workspace=lambda m, n, o, s: 0
)
"""
GOOD = (
    HEADER
    + """
@kernel(operation="gradient", **costs)
def mine(x, delta):
    return Gradient(x.T @ delta, delta.sum(0))
"""
)


def _register(name: str = "fresh", **changes: object) -> None:
    def function() -> None: ...

    function.__name__ = name
    costs = dict.fromkeys(("flops", "bytes_moved", "workspace"), lambda m, n, o, s: 0)
    kernel(**{"operation": "gradient", **costs, **changes})(function)  # type: ignore[arg-type]


def test_every_baseline_is_a_kernel_of_its_operation() -> None:
    for name in OPERATIONS:
        assert baseline_of(name).operation == name
        assert get_kernel(baseline_of(name).name, name).is_baseline


def test_a_duplicate_is_refused_and_changes_nothing() -> None:
    before = dict(KERNELS)
    with pytest.raises(ValueError, match=r"'matmul' is registered already, by mlr\.gradients"):
        _register("matmul")
    assert before == KERNELS


def test_an_unknown_name_is_answered_with_the_valid_ones() -> None:
    with pytest.raises(
        ValueError, match=r"unknown kernel 'matmull'; did you mean matmul\?; known: "
    ):
        get_kernel("matmull")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operation": "backward"}, "unknown operation 'backward'; known: gradient, step, fit"),
        ({"dtypes": ("float32", "int8")}, "got 'int8'"),
        ({"name": "<lambda>"}, "named by letters"),
        ({"name": "a-b"}, "named by letters"),
    ],
)
def test_what_no_kernel_can_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _register(**changes)  # type: ignore[arg-type]


def test_a_users_file_registers(tmp_path: Path) -> None:
    path = tmp_path / "my.py"
    path.write_text(GOOD)
    assert load_kernels(path) == ("mine",)
    problem = Problem(Case("gradient", "cpu", "float64", 4, 3, 2))
    assert get_kernel("mine").bind(problem)().weight.shape == (3, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "registers no kernel"),
        ("def f(:\n", r"my.py:1: SyntaxError"),
        (GOOD + "\n1 / 0\n", r"my.py:11: ZeroDivisionError: division by zero"),
        (
            HEADER + "\n@kernel(operation='gradient', **costs)\ndef matmul(x, delta): ...\n",
            "already",
        ),
        ("import nothing_of_that_name\n", r"my.py:1: ModuleNotFoundError"),
    ],
)
def test_a_users_mistake_names_their_line_and_leaves_nothing(
    tmp_path: Path, text: str, message: str
) -> None:
    before = dict(KERNELS)
    path = tmp_path / "my.py"
    path.write_text(text)
    with pytest.raises(KernelFileError, match=message) as caught:
        load_kernels(path)
    assert "\n" not in str(caught.value)
    assert before == KERNELS


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.py", "there is no such file as '.*missing.py'; check"),
        ("missing.txt", "there is no such file as '.*missing.txt'; check"),
        ("folder", "'.*folder' is a directory; give the file itself"),
        ("folder.py", "'.*folder.py' is a directory; give the file itself"),
        ("notes.txt", r"ending in \.py; got '.*notes.txt'; rename it"),
    ],
)
def test_what_is_no_kernel_file_is_told_for_what_it_is(
    tmp_path: Path, name: str, said: str
) -> None:
    for folder in ("folder", "folder.py"):
        (tmp_path / folder).mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(KernelFileError, match=f"a kernel file is a Python file.*{said}") as caught:
        load_kernels(tmp_path / name)
    assert "\n" not in str(caught.value)


README = (ROOT / "mlr" / "README.md").read_text(encoding="utf-8")
FORWARD = re.search(r"```python\n(# forward\.py.*?)```", README, re.DOTALL)[1]  # type: ignore[index]


def test_a_users_file_declares_an_operation_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "my.py"
    path.write_text(FORWARD)
    assert load_kernels(path) == ("forward.product",)
    mine, problem = get_kernel("product"), Problem(Case("forward", "cpu", "float32", 9, 5, 4))
    call = mine.bind(problem)
    assert check(mine, problem, call).ok
    x = problem.x
    problem.resample(5)
    assert check(mine, problem, call).ok
    assert problem.x is x
    assert problem.share_inputs().x is x
    assert check_on_other_inputs(mine, problem, call, 6).ok
    assert not check(mine, problem, lambda: 1.000_1 * call()).ok
    assert "returned NoneType" in str(check(mine, problem, lambda: None).reason)
    assert mine.baseline == "product"
    assert mine.predicted_peak_bytes(problem.case) is None  # its workspace is not declared
    with pytest.raises(ValueError, match="'forward' is registered already"):
        register_operation(OPERATIONS["forward"])
    with pytest.raises(AttributeError, match="a problem has x, w; got 'y'"):
        _ = problem.y


def test_a_file_that_fails_leaves_no_operation(tmp_path: Path) -> None:
    path = tmp_path / "my.py"
    path.write_text(FORWARD + "1 / 0\n")
    with pytest.raises(KernelFileError, match="ZeroDivisionError"):
        load_kernels(path)
    assert list(OPERATIONS) == ["gradient", "step", "fit"]


def test_resampling_changes_the_very_tensors(tmp_path: Path) -> None:
    problem = Problem(Case("gradient", "cpu", "float64", 5, 3, 2))
    x, before = problem.x, problem.x.clone()
    problem.resample(1)
    assert problem.x is x
    assert not x.equal(before)
    assert x.equal(Problem(Case("gradient", "cpu", "float64", 5, 3, 2, seed=1)).x)


def test_a_float32_case_is_the_rounded_float64_case() -> None:
    wide, narrow = (Problem(Case("step", "cpu", d, 5, 3, 2)) for d in ("float64", "float32"))
    assert wide.x.float().equal(narrow.x)
    assert wide.start.weight.float().equal(narrow.start.weight)
