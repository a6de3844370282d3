"""Sizes, ranges and names from the command line, and the grids they change."""

import argparse
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.common.errors import UserError
from bench.machine.devices import DEVICES, unavailable_reason
from bench.plan import selection
from bench.plan.benchmark import (
    cases,
    full_name,
    planned,
    predict,
    require_present,
    require_tried,
)
from bench.plan.grid import GRIDS, Processes
from bench.plan.selection import Selection, add_axes, process_count, sizes, thread_counts
from mlr.checks import DTYPE_NAMES

PARSER = argparse.ArgumentParser()
add_axes(PARSER.add_argument)
DEFAULTS = vars(PARSER.parse_args([]))


def axes(**given_axes: object) -> Selection:
    return Selection.from_args(argparse.Namespace(**DEFAULTS | given_axes))


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


# What a size may be made of, and what looks like it: of all characters few texts would be near one.
CHARACTERS = "0123456789:^,*-+. eEx_\n\t\0½²٣é日\u2028"


@settings(max_examples=50)
@given(st.text(CHARACTERS, max_size=20))
def test_any_text_is_sizes_or_a_clear_line(text: str) -> None:
    found, said = (), ""
    try:
        found = sizes(text, "--batch")
    except UserError as error:
        said = str(error)
    assert len(said.splitlines()) == (not found)
    assert all(1 <= value <= 10**12 for value in found)


@settings(max_examples=50)
@given(first=st.integers(1, 1000), factor=st.integers(2, 10), steps=st.integers(0, 8))
def test_a_range_holds_every_power_up_to_its_end(first: int, factor: int, steps: int) -> None:
    last = first * factor**steps
    assert sizes(f"{first}:{last}:{factor}", "-") == tuple(
        first * factor**k for k in range(steps + 1)
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("grid", "huge", f"--grid is one of {', '.join(GRIDS)}; got 'huge'"),
        ("kernel", "matmull", r"--kernel takes .*; got 'matmull'; did you mean matmul\?"),
        ("device", "tpu", "--device takes cpu, cuda; got 'tpu'"),
        ("operation", "backward", "--operation takes gradient, step, fit; got 'backward'"),
        ("dtype", "int8", "--dtype takes .*; got 'int8'"),
        ("dtype", "float16", "--dtype takes float32, float64, bfloat16; got 'float16'"),
        ("kernel_file", "/nowhere/my.py", "a kernel file is a Python file"),
    ],
)
def test_a_bad_axis_is_one_line(option: str, value: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        axes(**{option: value})


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may use four cores of two processors each; nothing is set outside."""
    monkeypatch.setattr(selection, "usable", lambda: (4, 8))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("text", "outside", "expected"),
    [
        (None, None, (1,)),
        (None, "3", (3,)),
        (None, "", (1,)),
        (None, "2,1", (2,)),  # OpenMP's own form, by level of nesting
        ("2", "3", (2,)),
        ("all", None, (4,)),
        ("1, 2,all,4,1", None, (1, 2, 4)),
        ("8", None, (8,)),
    ],
)
def test_numbers_of_threads(
    text: str | None, outside: str | None, expected: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if outside is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", outside)
    assert thread_counts(text) == expected


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("given", "outside", "several", "expected"),
    [
        ({"grid": "tall"}, None, True, (1, 4)),
        ({"grid": "wide"}, None, True, (1, 4)),
        ({"grid": "quick"}, None, True, (1,)),
        ({"grid": "tall"}, None, False, (1,)),  # of a command that takes one number
        ({"grid": "tall", "threads": "2"}, None, True, (2,)),
        ({"grid": "tall"}, "3", True, (3,)),
    ],
)
def test_a_grid_says_the_numbers_of_threads_of_a_run(
    given: dict[str, str], outside: str | None, several: bool, expected: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if outside is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", outside)
    found = Selection.from_args(argparse.Namespace(**DEFAULTS | given), several_threads=several)
    assert found.threads == expected


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize("text", ["0", "9", "-1", "1.0", "ALL", "two", "9" * 5_000, "٣", " ,1"])
def test_what_is_no_number_of_threads_is_one_line(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"^--threads takes numbers from 1 to 8, .*, or all; got "):
        thread_counts(text)
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with pytest.raises(UserError, match=r"^OMP_NUM_THREADS takes numbers from 1 to 8, ") as caught:
        thread_counts(None)
    assert len(str(caught.value)) < 200


@pytest.mark.usefixtures("four_cores")
def test_threads_are_an_axis_of_the_processor() -> None:
    """A process has one number of threads; the cases of an accelerator are not measured twice."""
    given = argparse.Namespace(
        **DEFAULTS | {"threads": "2,1", "kernel": "matmul", "batch": "7,9", "device": "cpu,cuda"}
    )
    with pytest.raises(UserError, match=r"--threads takes one number here; got 2,1; see `run`"):
        Selection.from_args(given)
    several = Selection.from_args(given, several_threads=True)
    plan = [(one.case.device, one.case.batch, one.threads) for one in planned(several)]
    assert sorted(plan) == [
        *(("cpu", batch, threads) for batch in (7, 9) for threads in (1, 2)),
        *(("cuda", batch, 2) for batch in (7, 9)),
    ]
    names = {one.threads: full_name(one) for one in planned(several) if one.case.device == "cpu"}
    assert names[2] == f"{names[1].removesuffix(']')}-2threads]"  # stored ids stay as they are
    assert "--threads=2,1" in several.as_arguments()


def test_a_number_of_processes_is_one_or_the_least_and_the_most() -> None:
    assert process_count("5") == (5, 5)
    assert process_count("2:5") == (2, 5)
    assert (str(Processes(1, 1)), str(Processes(2, 5))) == ("1 process", "2 to 5 processes")
    for grid in GRIDS.values():
        assert process_count(":".join(map(str, grid.processes))) == grid.processes


@pytest.mark.parametrize(
    "text", ["", "0", "101", "5:2", "1:5", "2:", ":5", "2:5:9", "2.5", "२", "-3"]
)
def test_another_number_of_processes_is_answered_in_one_line(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="takes 1 to 100, or from 2 on") as caught:
        process_count(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_grid_names_each_case_once(grid: str) -> None:
    found = cases(axes(grid=grid))
    assert len(found) == len(set(found))
    ids = [(entry.case.operation, entry.id) for entry in planned(axes(grid=grid))]
    assert len(ids) == len(set(ids))


# Of the cases that a processor is planned, by grid: how many, and a digest of their ids in order.
# What a grid has for other devices must leave them as they are, or stored runs would stand alone.
ON_CPU = {
    "headline": (11, "c97c9d598b3c"),
    "single": (3, "32a36381ac57"),
    "smoke": (6, "736a1ade1c4c"),
    "quick": (19, "cff5ae64834a"),
    "full": (128, "aeb6694aeda8"),
    "tall": (36, "452c2916d204"),
    "wide": (18, "b63c71727fc8"),
    "trainings": (18, "edaa539fcd0f"),
    "scaling": (10, "43abf9d30467"),
    "examples": (13, "6e0c0f52b4b4"),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_what_a_processor_is_planned_is_as_it_was(grid: str) -> None:
    found = cases(axes(grid=grid, device="cpu"))
    ids = "\n".join(f"{case.operation}-{case.id}" for case in found)
    assert (len(found), sha256(ids.encode()).hexdigest()[:12]) == ON_CPU[grid]


def test_a_grid_names_only_devices_and_dtypes_that_there_are() -> None:
    for block in (block for grid in GRIDS.values() for block in grid.block):
        assert {*block.devices} <= {*DEVICES}
        assert {*block.dtypes} <= {*DTYPE_NAMES}


@pytest.mark.parametrize("grid", ["quick", "tall", "full"])
def test_a_gpu_has_cases_beyond_its_cache_and_in_16_bits(grid: str) -> None:
    """In bfloat16 those kernels alone are planned that take it, unless it is named."""
    plan = planned(axes(grid=grid, device="cuda"))
    assert max(entry.case.batch for entry in plan) == 10_000_000
    of_16_bits = [entry for entry in plan if entry.case.dtype == "bfloat16"]
    assert {entry.kernel.name for entry in of_16_bits} >= {"one_pass_triton"}
    assert all("bfloat16" in entry.kernel.dtypes for entry in of_16_bits)
    named = planned(axes(grid=grid, device="cuda", dtype="bfloat16"))
    assert {entry.kernel.name for entry in named} > {entry.kernel.name for entry in of_16_bits}


def test_a_quick_run_on_a_gpu_takes_minutes() -> None:
    """A benchmark takes about half a second in a process, and what is drawn for it besides."""
    plan = planned(axes(grid="quick", device="cuda"))
    rows = sum(entry.case.batch for entry in plan)
    processes, numbers_s, draws = 2, 2e-7, 8  # of a row; in one that verifies and two that time
    assert len(plan) * (1 + processes) * 0.5 + rows * numbers_s * draws < 600


def test_axes_take_the_place_of_the_grids_own() -> None:
    found = cases(
        axes(grid="quick", batch="7,11", outputs="2", device="cpu", dtype="float32",
             operation="gradient")
    )  # fmt: skip
    assert {case.batch for case in found} == {7, 11}
    assert {case.out_features for case in found} == {2}
    assert {case.dtype for case in found} == {"float32"}
    assert {case.in_features for case in found} > {6, 64}


def test_a_size_without_a_grid_takes_the_other_axes_from_one_case() -> None:
    two_at_four = axes(batch="2^6:2^12:4", kernel="matmul,kron_einsum", device="cpu")
    assert len(planned(two_at_four)) == 8
    (case,) = cases(axes(features="5", operation="step", device="cpu"))
    assert (case.dtype, *case.sizes) == ("float64", 100, 5, 8)
    replaced = cases(axes(grid="tall", batch="7", device="cpu"))
    assert len(replaced) == 3 * 2  # the layers and the dtypes of that grid


def test_the_default_is_about_sixty_benchmarks_that_a_reader_asks_for_first() -> None:
    given = axes(device="cpu")
    plan = planned(given)
    assert given.grid == "headline"
    assert 50 <= len(plan) <= 70
    assert {entry.case.operation for entry in plan} == {"gradient", "step", "fit"}
    for case in cases(given):
        names_of = {entry.kernel.name for entry in plan if entry.case == case}
        assert {entry.kernel.baseline for entry in plan if entry.case == case} <= names_of
    assert len({entry.case for entry in plan if entry.kernel.name == "kron_einsum"}) > 3


def test_a_kernel_of_ones_own_is_in_every_grid(tmp_path: Path) -> None:
    file = tmp_path / "my.py"
    file.write_text(
        "from mlr import kernel\n@kernel(operation='gradient', flops=lambda m, n, o, s: 1, "
        "workspace=lambda m, n, o, s: 1)\ndef mine(x, delta): ...\n"
    )
    given = axes(kernel_file=str(file), device="cpu")
    of_mine = {entry.case for entry in planned(given) if entry.kernel.name == "mine"}
    assert of_mine == {case for case in cases(given) if case.operation == "gradient"}
    named = axes(kernel="outer_sum", device="cpu")  # of no interest to the grid, but named
    assert {entry.kernel.name for entry in planned(named)} == {"outer_sum"}


def test_several_files_are_named_with_commas_between_them(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one.py", "two.py")]
    for file in files:
        file.write_text(
            "from mlr import kernel\n@kernel(operation='gradient', flops=lambda m, n, o, s: 1, "
            f"workspace=lambda m, n, o, s: 1)\ndef {file.stem}_of_mine(x, delta): ...\n"
        )
    given = axes(kernel_file=",".join(map(str, files)), device="cpu")
    assert given.kernel_files() == files
    of_both = {entry.kernel.name for entry in planned(given) if not entry.kernel.built_in}
    assert of_both == {"one_of_mine", "two_of_mine"}


def test_a_device_that_is_absent_is_planned_only_where_it_is_named() -> None:
    if unavailable_reason("cuda") is None:
        pytest.skip("there is a CUDA device")
    assert axes().device == ("cpu",)
    plan = planned(axes(device="cuda", kernel="matmul", batch="7"))
    assert len(plan) == 1
    with pytest.raises(UserError, match=r"none of 1 can \(matmul: torch .* CUDA"):
        require_tried([predict(entry).columns() for entry in plan])
    assert predict(plan[0]).status == "unsupported"


def test_a_device_that_was_named_and_is_absent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {"cuda": "the driver shows no CUDA device"}
    monkeypatch.setattr("bench.plan.benchmark.unavailable_reason", absent.get)
    require_present(axes())
    require_present(axes(device="cpu"))
    for named in ("cuda", "cpu,cuda"):
        with pytest.raises(UserError, match=r"^--device .*; got cuda: the driver shows no CUDA"):
            require_present(axes(device=named))


def test_what_no_kernel_takes_is_predicted_without_its_formula() -> None:
    """A kernel's formulas need not hold for a dtype that it does not take."""
    plan = planned(axes(dtype="bfloat16", batch="9", device="cpu"))
    told = {entry.kernel.name: predict(entry, None, 1.0) for entry in plan}
    assert told["one_pass_step"].status == told["auto"].status == "unsupported"
    assert "takes float32, float64 only" in str(told["one_pass_step"].reason)


@pytest.mark.parametrize("grid", ["quick", "full"])
def test_grids_cross_where_things_change_hands(grid: str) -> None:
    gradient, step = (
        {case.sizes for case in cases(axes(grid=grid, operation=name))}
        for name in ("gradient", "step")
    )
    notebook, tall, wide = {(33, 6, 3), (100, 6, 3)}, (1_000_000, 6, 3), (10_000, 256, 64)
    assert {*notebook, tall, wide} <= step
    assert {*notebook, wide} <= gradient
    inputs_of, outputs_of = (Counter((m, width) for m, *both in gradient for width in both[k:k + 1])
                             for k in (1, 0))  # fmt: skip
    assert max(inputs_of.values()) >= 3, "no m, o at which n grows"
    assert max(outputs_of.values()) >= 3, "no m, n at which o grows"
