"""Sizes, ranges and names from the command line, and the grids they change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.axes import AXES, names, sizes
from bench.errors import UserError
from bench.grid import GRIDS, Axes, cases, planned

DEFAULTS = {axis.name: axis.default for axis in AXES}


def axes(**given_axes: object) -> Axes:
    return Axes.parse(lambda name: {**DEFAULTS, **given_axes}[name])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("33", (33,)),
        ("33,100,33", (33, 100)),
        ("2^8:2^14:2", tuple(2**k for k in range(8, 15))),
        ("10:1000:10,7", (10, 100, 1000, 7)),
        ("3:100:5", (3, 15, 75)),
        ("10^3:10^6:10", (1_000, 10_000, 100_000, 1_000_000)),
        ("5:5:2", (5,)),
    ],
)
def test_sizes(text: str, expected: tuple[int, ...]) -> None:
    assert sizes(text, "--batch") == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "x", "-3", "0", "1.5", "2^", "^2", "1:2", "1:2:3:4", "8:2:2", "1:8:1", "1:8:0"),
        *("1:8:-2", "10^13", "9" * 40, "2^999999999", "1e3", "0x10", "٣", "1:10^12:2,nan"),
    ],
)
def test_what_is_no_size_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"^--batch takes .*; got .*$") as caught:
        sizes(text, "--batch")
    assert "\n" not in str(caught.value)


@given(st.text(max_size=20))
def test_any_text_is_sizes_or_a_clear_line(text: str) -> None:
    try:
        found = sizes(text, "--batch")
    except UserError:
        return
    assert found
    assert all(1 <= value <= 10**12 for value in found)


@given(first=st.integers(1, 1000), factor=st.integers(2, 10), steps=st.integers(0, 8))
def test_a_range_holds_every_power_up_to_its_end(first: int, factor: int, steps: int) -> None:
    last = first * factor**steps
    assert sizes(f"{first}:{last}:{factor}", "-") == tuple(
        first * factor**k for k in range(steps + 1)
    )


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"--dtype takes a, b; got 'c'"):
        names("a,c", "--dtype", ("a", "b"))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("grid", "huge", "--grid is one of smoke, quick, full, tall, wide, scale; got 'huge'"),
        ("kernel", "matmull", "--kernel takes .*matmul.*; got 'matmull'"),
        ("device", "tpu", "--device takes cpu, cuda; got 'tpu'"),
        ("stage", "backward", "--stage takes gradient, step, fit; got 'backward'"),
        ("dtype", "int8", "--dtype takes .*; got 'int8'"),
        ("kernel_file", "/nowhere/my.py", "a kernel file is a Python file"),
    ],
)
def test_a_bad_axis_is_one_line(option: str, value: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        axes(**{option: value})


def test_an_empty_plan_is_refused() -> None:
    with pytest.raises(UserError, match="must leave a case to measure"):
        planned(axes(stage="step", kernel="matmul"))


@pytest.mark.parametrize("grid", GRIDS)
def test_a_grid_names_each_case_once(grid: str) -> None:
    found = cases(axes(grid=grid))
    assert len(found) == len(set(found))
    ids = [(entry.case.stage, entry.id) for entry in planned(axes(grid=grid))]
    assert len(ids) == len(set(ids))


def test_axes_take_the_place_of_the_grids_own() -> None:
    found = cases(axes(batch="7,11", outputs="2", device="cpu", dtype="float32", stage="gradient"))
    assert {case.batch for case in found} == {7, 11}
    assert {case.out_features for case in found} == {2}
    assert {case.dtype for case in found} == {"float32"}
    assert {case.in_features for case in found} > {6, 64}


@pytest.mark.parametrize("grid", ["quick", "full"])
def test_grids_cross_where_things_change_hands(grid: str) -> None:
    found = {case.sizes for case in cases(axes(grid=grid, stage="gradient"))}
    notebook, tall, wide = {(33, 6, 3), (100, 6, 3)}, (1_000_000, 6, 3), (10_000, 256, 64)
    assert {*notebook, tall, wide, (10_000, 64, 16)} <= found
    for m, n in {(m, n) for m, n, _ in found}:
        if len({o for a, b, o in found if (a, b) == (m, n)}) >= 3:
            break
    else:
        pytest.fail("no m, n at which o grows")
