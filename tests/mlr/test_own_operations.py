"""An operation of one's own: what a short class declares, and what is refused in one line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from paths import KERNEL_FILES

from mlr import (
    KERNELS,
    OPERATIONS,
    Case,
    KernelFileError,
    Problem,
    check,
    check_on_other_inputs,
    get_kernel,
    kernel,
    load_kernels,
    operation,
)
from mlr.alteration import check_on_changed_inputs, swap_numbers

pytestmark = pytest.mark.usefixtures("as_users_call_it")
FILES = ("softmax", "momentum", "attention", "norms")
SOFTMAX = "softmax_cross_entropy_backward"


def loaded(name: str) -> list[Any]:
    return [KERNELS[key] for key in load_kernels(KERNEL_FILES / f"{name}.py")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FILES)
def test_its_kernels_are_right_on_every_kind_of_inputs(name: str, dtype: str) -> None:
    for one in loaded(name):
        axes = OPERATIONS[one.operation].axes
        for sizes in (OPERATIONS[one.operation].least_sizes, range(5, 5 + len(axes))):
            problem = Problem(Case(one.operation, "cpu", dtype, *sizes))
            call = one.bind(problem)
            assert check(one, problem, call).ok
            assert check_on_other_inputs(one, problem, call, 7).ok
            swap_numbers(problem, Random(1))
            assert check_on_changed_inputs(problem, call, resample=False).ok


def test_a_case_has_the_axes_of_its_operation() -> None:
    loaded("attention")
    case = Case("attention_backward", "cpu", "float32", 4, 16, 8)
    assert case.id == "cpu-float32-4x16x8"
    assert (case.length, case.head_size) == (16, 8)
    assert case == Case("attention_backward", "cpu", "float32", batch=4, length=16, head_size=8)
    assert replace(case, sizes=(4, 32, 8)).by_axis == {"batch": 4, "length": 32, "head_size": 8}
    assert replace(case, length=32).sizes == (4, 32, 8)
    with pytest.raises(AttributeError, match=r"a case has .*head_size; got 'in_features'"):
        _ = case.in_features
    for wrong in ((4, 16), (4, 16, 8, 1)):
        with pytest.raises(ValueError, match="a size for each of batch, length, head_size; got"):
            Case("attention_backward", "cpu", "float32", *wrong)
    with pytest.raises(ValueError, match="length must be at least 1; got 0"):
        replace(case, length=0)


def test_costs_follow_from_formulas_and_from_shapes_and_else_are_not_declared() -> None:
    autograd, by_hand = loaded("softmax")
    case = Case(SOFTMAX, "cpu", "float32", 2**40, 10)  # of which nothing is ever drawn
    assert (case.least_flops, case.least_bytes) == (50 * 2**40, 120 * 2**40)
    assert case.input_bytes == 80 * 2**40
    assert by_hand.predicted_flops(case) == 60 * 2**40
    assert by_hand.predicted_bytes_moved(case) == case.least_bytes
    assert by_hand.predicted_peak_bytes(case) == 40 * 2**40
    assert autograd.predicted_flops(case) is autograd.predicted_peak_bytes(case) is None
    norm, _ = loaded("norms")
    small = Case("lengths_of_rows", "cpu", "float64", 50, 3)
    assert small.least_flops is small.least_bytes is small.input_bytes is None
    assert norm.predicted_flops(small) is norm.predicted_bytes_moved(small) is None


def test_an_error_is_held_against_a_bound_or_the_baselines_own() -> None:
    loaded("norms")
    (autograd, by_hand) = loaded("softmax")
    told = [OPERATIONS[name].tolerance_of for name in (SOFTMAX, "lengths_of_rows", "gradient")]
    assert told == ["baseline", "bound", "bound"]
    problem = Problem(Case(SOFTMAX, "cpu", "float32", 64, 10))
    call = by_hand.bind(problem)
    found = check(by_hand, problem, call)
    unit = torch.finfo(torch.float32).eps / 2
    its_own = check(autograd, problem, autograd.bind(problem)).error
    assert found.tolerance == 4 * its_own + 8 * unit
    largest = float(call().abs().max())

    def off_by(share: float) -> Callable[[], torch.Tensor]:
        def moved() -> torch.Tensor:
            value = call()
            value[3, 4] += share * largest
            return value

        return moved

    assert check(by_hand, problem, off_by(found.tolerance / 4)).ok
    assert not check(by_hand, problem, off_by(2 * found.tolerance)).ok


def test_a_baseline_that_is_wrong_at_another_size_allows_nothing() -> None:
    """It is right at the least sizes, where it was checked."""
    declare(plain(axes={"n": (4, 64)}))

    @kernel(operation="own", baseline=True)
    def base(x: torch.Tensor) -> torch.Tensor:
        return 2 * x if len(x) < 64 else 2.5 * x

    one = get_kernel("base", "own")
    for size, ok in ((4, True), (64, False)):
        problem = Problem(Case("own", "cpu", "float64", size))
        assert check(one, problem, one.bind(problem)).ok == ok


def test_the_results_of_state_are_what_so_many_calls_leave() -> None:
    _, in_place = loaded("momentum")
    problem = Problem(Case("momentum_step", "cpu", "float64", 50))
    start = [value.clone() for value in problem.start]
    call = in_place.bind(problem)
    for _ in range(3):
        call()
    after = OPERATIONS["momentum_step"].oracle(problem, 3)
    for name, expected in zip(("p", "v"), after, strict=True):
        torch.testing.assert_close(getattr(problem, name), expected)
    problem.reset()
    for held, value, begun in zip(problem.parameters(), problem.start, start, strict=True):
        assert held.equal(value)
        assert value.equal(begun)
    assert not check(in_place, problem, lambda: None).ok
    assert not check(in_place, problem, lambda: (call(), call())).ok


def test_labels_and_one_hot_rows_stay_valid_whatever_is_changed() -> None:
    loaded("softmax")
    problem = Problem(Case(SOFTMAX, "cpu", "float64", 64, 10))
    before, chance = problem.y.clone(), Random(1)
    for _ in range(500):
        swap_numbers(problem, chance)
    assert not problem.y.equal(before)
    assert (problem.y.sum(1) == 1).all()
    assert ((problem.y == 0) | (problem.y == 1)).all()


def test_whole_numbers_stay_so_in_every_dtype() -> None:
    def inputs(case: Case, generator: torch.Generator) -> dict[str, torch.Tensor]:
        rows = torch.randint(5, (case.n,), generator=generator)
        return {"rows": rows, "x": torch.randn(5, generator=generator, dtype=torch.float64)}

    declare(plain(inputs=inputs, oracle=lambda rows, x: x[rows]))
    problem = Problem(Case("own", "cpu", "bfloat16", 7))
    assert (problem.rows.dtype, problem.x.dtype) == (torch.int64, torch.bfloat16)
    assert problem.case.input_bytes == 7 * 8 + 5 * 2


def test_every_device_and_version_draws_the_same_numbers_from_a_seed() -> None:
    loaded("attention")
    wide, narrow = (Problem(Case("attention_backward", "cpu", dtype, 2, 5, 3, seed=4))
                    for dtype in ("float64", "float32"))  # fmt: skip
    assert wide.q.float().equal(narrow.q)
    q = wide.q
    wide.resample(5)
    assert wide.q is q
    assert not q.float().equal(narrow.q)
    shared = wide.share_inputs()
    assert shared.q is q


def test_kernels_of_two_operations_may_have_one_name() -> None:
    built_in = get_kernel("autograd")
    mine, _ = loaded("softmax")
    other, _ = loaded("attention")
    assert get_kernel("autograd") is built_in
    assert get_kernel("autograd", SOFTMAX) is mine
    assert get_kernel("autograd", "attention_backward") is other
    with pytest.raises(ValueError, match=rf"several operations have a kernel 'by_hand': {SOFTMAX}"):
        get_kernel("by_hand")
    with pytest.raises(ValueError, match=r"unknown kernel 'by_hands'; did you mean by_hand\?"):
        get_kernel("by_hands", SOFTMAX)


def draw(case: Case, generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {"x": torch.randn(case.n, generator=generator, dtype=torch.float64)}


def plain(
    axes: Any = None, inputs: Any = draw, oracle: Any = lambda x: 2 * x, **more: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of a decorator, and what is in the class below it."""
    parts = {name: more.pop(name) for name in ("error_scale",) if name in more}
    given = {"axes": {"n": (4,)} if axes is None else axes, **more}
    body = {"inputs": inputs, "oracle": oracle, **parts}
    return given, {name: value for name, value in body.items() if value is not None}


def declare(declared: tuple[dict[str, Any], dict[str, Any]]) -> None:
    given, body = declared
    operation(**given)(type("own", (), body))


def drawn(**values: Any) -> Callable[..., dict[str, Any]]:
    return lambda case, generator: {**draw(case, generator), **values}


def grows(case: Case, generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {"x": torch.ones(int(torch.randint(1, 10**6, (), generator=generator))).double()}


def never_the_same(case: Case, generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {"x": torch.randn(case.n, dtype=torch.float64)}


ONES = torch.ones(4, dtype=torch.float64)
REFUSED: dict[str, tuple[Any, str]] = {
    "no oracle": (plain(oracle=None), "it must have a function oracle; got none"),
    "no inputs": (plain(inputs=None), "it must have a function inputs; got none"),
    "an oracle that is no function": (plain(oracle=3), "oracle must be a function; got int"),
    "no axes": (plain(axes={}), "it must have an axis; got none"),
    "an axis that is no identifier": (plain(axes={"a-b": (4,)}), "an axis is named by letters"),
    "an axis in Greek": (plain(axes={"λ": (4,)}), "an axis is named by letters"),
    "an axis twice": (plain(axes=[("n", (4,)), ("n", (5,))]), "named once; got 'n' twice"),
    "an axis that cases have": (plain(axes={"dtype": (4,)}), "a name that no case has yet"),
    "a size of zero": (plain(axes={"n": (4, 0)}), "the axis n has sizes, whole numbers of at"),
    "a size of half": (plain(axes={"n": (0.5,)}), "the axis n has sizes, whole numbers of at"),
    "no sizes": (plain(axes={"n": ()}), "the axis n has sizes"),
    "inputs that are a list": (plain(inputs=lambda c, g: [ONES]), "a dictionary of tensors by"),
    "inputs in NumPy": (plain(inputs=drawn(y=ONES.numpy())), "must be tensors; y is ndarray"),
    "inputs in float32": (plain(inputs=drawn(y=ONES.float())), "in float64; y is torch.float32"),
    "complex inputs": (plain(inputs=drawn(y=ONES.cfloat())), "y is torch.complex64 on cpu"),
    "inputs of another device": (plain(inputs=drawn(y=ONES.to("meta"))), "torch.float64 on meta"),
    "empty inputs": (plain(inputs=drawn(y=ONES[:0])), "inputs must not be empty; y is"),
    "inputs of no seed": (plain(inputs=never_the_same), "the same from the same generator; x"),
    "inputs of any shape": (plain(inputs=grows), "one shape for every seed; x has"),
    "an input that problems have": (plain(inputs=drawn(seed=ONES)), "problem has yet; got 'seed'"),
    "inputs that fail": (plain(inputs=lambda c, g: 1 / 0), "must work at its least sizes, n = 4"),
    "a state that is no input": (plain(state=("p",)), "state is of inputs in float64; got 'p'"),
    "a state of integers": (
        plain(inputs=drawn(p=torch.arange(3)), oracle=lambda x, p: p, state=("p",)),
        "state is of inputs in float64; got 'p'",
    ),
    "an oracle in float32": (plain(oracle=lambda x: x.float()), "in float64; got torch.float32"),
    "an oracle of no tensor": (plain(oracle=lambda x: 2.0), "a tuple of tensors; got float"),
    "an oracle of nothing": (plain(oracle=lambda x: ()), "a tuple of tensors; got tuple"),
    "an oracle that fails": (
        plain(oracle=lambda x: x[99]), "oracle must work at its least sizes, n = 4; it says Index"),
    "an oracle of any shape": (plain(oracle=lambda x: x[x > 0]), "the same shapes for every seed"),
    "an oracle of no state": (
        plain(oracle=lambda x: x.sum(), state=("x",)), "after a call, a tensor for each of x"),
    "a scale of another shape": (
        plain(error_scale=lambda x: x.sum()), "error_scale must return a number for each"),
    "a negative cost": (
        plain(least_flops=lambda n, s: -n), "least_flops of operation own must be a whole number"),
    "a cost of half": (plain(least_bytes=lambda n, s: n / 2), "its formula gives 2.0"),
    "a cost of other sizes": (plain(least_bytes=lambda m, n, o, s: 1), "formula raises TypeError"),
    "no roundings": (plain(roundings=0), "roundings must be a whole number above 0; got 0"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_declares_no_operation_is_one_line(what: str) -> None:
    declared, part = REFUSED[what]
    before = dict(OPERATIONS)
    with pytest.raises(ValueError, match=r"^operation own: ") as caught:
        declare(declared)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert before == OPERATIONS


def test_a_name_is_declared_once() -> None:
    declare(plain())
    with pytest.raises(ValueError, match="operation 'own' is registered already"):
        declare(plain())
    with pytest.raises(ValueError, match="operation 'gradient' is registered already"):
        operation(axes={"n": (4,)})(type("gradient", (), plain()[1]))


OWN = """
import torch
from mlr import kernel, operation

@operation(axes={"n": (4,)})
class own:
    def inputs(case, generator):
        return {"x": torch.randn(case.n, generator=generator, dtype=torch.float64)}
    def oracle(x):
        return 2 * x

@kernel(operation="own", BASELINE)
def double(x):
    return RESULT
"""


@pytest.mark.parametrize(
    ("baseline", "result", "more", "part"),
    [
        ("", "2 * x", "", "own needs a baseline, which others are compared with; none of its"),
        ("baseline=True", "2.001 * x", "", "the baseline double of own must be right; error"),
        ("baseline=True", "x.float()", "", "must be right; result must be float64 on cpu"),
        ("baseline=True", "x[9]", "", "must be right; it raises IndexError"),
        ("baseline=True", "2 * x", "kernel(operation='own', baseline=True)(lambda x: x)", "named"),
        (
            "baseline=True", "2 * x",
            "@kernel(operation='own', baseline=True)\ndef other(x): ...",
            "operation own has one baseline; got other besides double",
        ),
        (
            "baseline=True", "2 * x",
            "@kernel(operation='gradient', baseline=True)\ndef other(x): ...",
            "operation gradient has one baseline; got other besides autograd",
        ),
        (
            "baseline=True", "2 * x", "@kernel(operation='own')\ndef double(x): ...",
            "kernel 'double' is registered already, by mlr_user_my",
        ),
    ],
)  # fmt: skip
def test_a_file_without_one_right_baseline_is_refused_and_leaves_nothing(
    tmp_path: Path, baseline: str, result: str, more: str, part: str
) -> None:
    before, path = (dict(KERNELS), dict(OPERATIONS)), tmp_path / "my.py"
    path.write_text(OWN.replace("BASELINE", baseline).replace("RESULT", result) + more)
    with pytest.raises(KernelFileError, match=r"my\.py") as caught:
        load_kernels(path)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert before == (KERNELS, OPERATIONS)


def test_a_file_is_run_once(tmp_path: Path) -> None:
    path = tmp_path / "my.py"
    path.write_text(OWN.replace("BASELINE", "baseline=True").replace("RESULT", "2 * x"))
    assert load_kernels(path) == load_kernels(path) == ("own.double",)
