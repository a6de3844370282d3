"""Operations with any axes, alone and beside those of a linear layer, wherever they are shown."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from own_operations import ATTENTION, CUMSUM, KERNELS, SOFTMAX, add_own_case, own_run
from paths import KERNEL_FILES
from reports import blank_figures, draw_in_style, links, render, words
from run_builder import FEW_KERNELS, add_case, build_run, save

from bench.analysis.compare import compare_runs, history_of
from bench.analysis.frame import axes_of, calls, facets, sizes_of
from bench.analysis.ranking import fastest, relative_performance
from bench.analysis.sizes import crossovers, growth_exponents
from bench.cli.main import main
from bench.cli.results import print_results
from bench.common.errors import UserError
from bench.overhead.section import every_subject
from bench.plan.grid import GRIDS
from bench.report.build import write_report, write_table
from bench.report.figures import View, kinds
from bench.report.figures.heatmaps import MOST_ROWS, map_sizes
from bench.report.html.data import page_data
from bench.report.publishing import readme_blocks
from bench.report.sections import fastest_section
from bench.run.submission import find_problems
from bench.store.runs import load_frame, load_run

OWN = {"cumsum": CUMSUM, "softmax": SOFTMAX, "attention": ATTENTION}


def stored(folder: Path, name: str = "a", **given: Any) -> Path:
    given = {"operations": OWN, "undeclared": ["cumsum"]} | given
    return save(own_run(**given), folder / f"{name}.json")


def mixed(folder: Path) -> Path:
    """A run of operations on a layer, whose sizes are columns as of old, and of others."""
    run = build_run(["gradient", "step"], [(33, 6, 3), (100, 6, 3)], kernels=FEW_KERNELS)
    for batch in SOFTMAX["batch"]:
        for kernel, speedup in KERNELS.items():
            add_own_case(run, "softmax", kernel, {"batch": batch, "classes": 10}, speedup)
    return save(run, folder / "mixed.json")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing."""
    blank_figures(monkeypatch)


def test_the_frame_has_a_column_for_each_axis(tmp_path: Path) -> None:
    frame = load_frame([stored(tmp_path)])
    start = list(frame).index("dtype") + 1
    assert list(frame)[start : start + 6] == [
        *("length", "batch", "classes", "heads", "tokens", "width"),
    ]
    for operation, axes in OWN.items():
        rows = frame[frame["operation"] == operation]
        assert axes_of(rows) == list(axes)
        pd.testing.assert_frame_equal(sizes_of(rows), rows[[*axes]].astype("int64"))
        others = [axis for axis in ("length", "classes", "heads") if axis not in axes]
        assert rows[others].isna().all(axis=None)
    assert set(frame["case"][frame["operation"] == "softmax"]) >= {"64x10", "4096x1000"}


def test_an_old_run_is_read_as_if_it_had_sizes(tmp_path: Path) -> None:
    old = build_run(["gradient"], [(33, 6, 3), (100, 64, 16)], kernels=FEW_KERNELS)
    new = json.loads(json.dumps(old))
    for entry in [*new["outcomes"], *(one["extra_info"] for one in new["benchmarks"])]:
        axes = ("batch", "in_features", "out_features")
        entry["sizes"] = {axis: entry.pop(axis) for axis in axes}
    frames = [load_frame([save(run, tmp_path / name / "a.json")])
              for name, run in (("old", old), ("new", new))]  # fmt: skip
    pd.testing.assert_frame_equal(*frames)
    assert {str(frames[0][axis].dtype) for axis in axes} == {"int64"}


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"<script>alert(1)</script>": 3}, "should match pattern"),
        ({"a b": 3}, "should match pattern"),
        ({"a, b": 3}, "should match pattern"),
        ({"": 3}, "should match pattern"),
        ({"2d": 3}, "should match pattern"),
        ({"x" * 51: 3}, "should match pattern"),
        ({"kernel": 3}, "kernel is one"),
        ({"speedup": 3}, "speedup is one"),
        ({"n": 0}, "greater than 0"),
        ({"n": 2.5}, "valid integer"),
        ({"n": True}, "valid integer"),
        ({}, "at least 1 item"),
        ([3], "valid dictionary"),
        (None, "valid dictionary"),
    ],
)
def test_sizes_are_checked(sizes: Any, said: str, tmp_path: Path) -> None:
    run = own_run({"cumsum": CUMSUM})
    run["outcomes"][0]["sizes"] = sizes
    with pytest.raises(UserError, match=r"outcomes\.0\.sizes") as refused:
        load_run(save(run, tmp_path / "a.json"))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_benchmark_has_the_sizes_of_its_outcome(tmp_path: Path) -> None:
    run = own_run({"softmax": SOFTMAX})
    run["benchmarks"][0]["extra_info"]["sizes"] = {"batch": 64, "classes": 11}
    with pytest.raises(UserError, match="differ in the case"):
        load_run(save(run, tmp_path / "a.json"))


def test_any_word_may_be_an_axis(tmp_path: Path) -> None:
    """Names that a derived table has, and letters of another alphabet."""
    axes = {"time": (1, 2, 4), "rate": (3, 5), "low": (7,), "größe": (8,), "measured": (1, 2)}
    path = stored(tmp_path, operations={"own": axes}, undeclared=[])
    frame = load_frame([path])
    for make in (fastest, relative_performance, growth_exponents, crossovers):
        make(frame)
    found = page_data(frame, {path: load_run(path)}, [])
    assert found["axes"] == [list(axes)]
    part = facets(frame)[0]
    for kind in kinds().values():
        figure = draw_in_style(kind, View(frame, part, load_run(path)))
        assert figure is None or render(figure)


@pytest.mark.usefixtures("quick")
def test_a_report_of_own_operations_alone_has_nothing_of_a_layer(tmp_path: Path) -> None:
    write_report([stored(tmp_path)], tmp_path / "out", every_subject(), page=True)
    text = (tmp_path / "out" / "REPORT.md").read_text("utf-8")
    assert text.splitlines()[2] == "# cumsum, softmax, attention: what was measured"
    found, legend = text.split("## How to read it")
    for word in ("Jacobian", "torch.nn", "→", " m, n", "gradient"):
        assert word not in found, word
    assert "torch.nn" not in legend
    for said in (
        "Which kernel for a softmax?** 3.00× as fast as plain. **by_hand** is the fastest",
        "| 64 × 10 (batch × classes) ",
        "| 8 × 4 × 256 × 32 (batch × heads × tokens × width) ",
        "time against length",
    ):
        assert said in found, said
    names = {link.removeprefix("figures/").removesuffix(".png") for link in links(text)}
    assert names >= {"fastest-cumsum", "fastest-softmax", "fastest-attention", "time-cumsum"}
    assert "roofline-cumsum" not in names  # its costs are not declared
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert 'id="jacobian"' not in page
    assert "not declared" in page
    assert "torch.nn" not in page.split("<script")[0]


@pytest.mark.usefixtures("quick")
def test_a_report_of_both_shows_both(tmp_path: Path) -> None:
    write_report([mixed(tmp_path)], tmp_path / "out", every_subject(), page=True)
    text = (tmp_path / "out" / "REPORT.md").read_text("utf-8")
    names = {link.removeprefix("figures/").removesuffix(".png") for link in links(text)}
    own = {"fastest-gradient", "fastest-step", "fastest-softmax", "jacobian", "time-gradient"}
    assert names >= own
    assert re.search(r"\| softmax, float64 +\| 64 × 10 \(batch × classes\) +\| by_hand", text)
    assert re.search(r"\| gradient, float64 +\| 33 × 6 → 3 +\| matmul", text)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert 'id="jacobian"' in page
    for heading in ("batch", "in_features", "out_features", "classes", "size"):
        assert f'<th scope="col">{heading}</th>' in page


def test_a_table_of_one_operation_names_its_axes_at_its_head(tmp_path: Path) -> None:
    body = fastest_section(load_frame([stored(tmp_path)])).body
    for head, row in (("batch × classes", "64 × 1,000"), ("length", "1,000"),
                      ("batch × heads × tokens × width", "1 × 2 × 16 × 8")):  # fmt: skip
        table = body.split(f"| {head} ")[1]
        assert "| time of plain " in table.splitlines()[0]
        assert re.search(rf"\| {row} +\| by_hand", table)
    block = readme_blocks(load_frame([stored(tmp_path, "b")]))["fastest-softmax"]
    assert block.startswith("| batch × classes ")


@pytest.mark.parametrize("operation", [*OWN])
def test_every_figure_is_over_the_axes_of_the_operation(operation: str, tmp_path: Path) -> None:
    path = stored(tmp_path)
    frame, run = load_frame([path]), load_run(path)
    part = next(one for one in facets(frame) if one.operation == operation)
    view = View(frame, part, run)
    drawn = {name: draw_in_style(kind, view) for name, kind in kinds().items()}
    assert (drawn["roofline"] is None) is (operation == "cumsum")
    for figure in filter(None, drawn.values()):
        assert render(figure)
    for name in ("time", "memory", "error"):
        figure = drawn[name]
        assert figure is not None
        labels = [axes.get_xlabel() for axes in figure.axes]
        assert labels == [f"{axis} (log)" for axis in OWN[operation]]
    told = {name: words(figure) for name, figure in drawn.items() if figure is not None}
    undeclared = operation == "cumsum"
    assert ("predicted of by_hand, compiled, plain: not declared" in told["memory"]) is undeclared
    assert ("held against the baseline's own error" in told["error"]) is undeclared
    assert ("roofline bound: not declared" in told["time"]) is undeclared
    assert "by_hand\n3.00×" in told["fastest"]


def test_a_map_of_too_many_rows_is_over_the_two_axes_with_the_most_sizes() -> None:
    axes = {"a": (1, 2), "b": (1, 2, 3), "c": range(1, 7), "d": (1, 2, 3, 4)}
    frame = load_frame_of(own_run({"own": axes}))
    sizes, held = map_sizes(sizes_of(fastest(frame)))
    assert list(sizes) == ["c", "d"]
    assert held == {"a": 2, "b": 3}
    assert len(sizes) == 24
    few = sizes_of(fastest(load_frame_of(own_run({"own": ATTENTION}))))
    assert len(few.drop(columns="batch").drop_duplicates()) <= MOST_ROWS
    assert map_sizes(few)[1] == {}


def load_frame_of(run: dict[str, Any]) -> pd.DataFrame:
    from run_builder import frame_of

    frame: pd.DataFrame = frame_of(run)
    return frame


def test_growth_and_crossovers_are_along_each_axis(tmp_path: Path) -> None:
    run = own_run({"attention": {**ATTENTION, "tokens": (16, 64, 256, 1_024)}})
    for one in run["benchmarks"]:  # the faster the more tokens there are
        if one["extra_info"]["kernel"] == "compiled":
            factor = one["extra_info"]["sizes"]["tokens"] / 64
            for name in ("speedup", "speedup_low", "speedup_high"):
                one["extra_info"][name] *= factor
    frame = load_frame([save(run, tmp_path / "a.json")])
    growth = growth_exponents(frame)
    assert set(growth["axis"]) == {"tokens"}
    assert growth["held"].iloc[0] == {"batch": 8, "heads": 4, "width": 32}
    found = crossovers(frame)
    assert set(found["axis"]) == {"tokens"}
    assert set(zip(found["faster_below"], found["faster_above"], strict=True)) >= {
        ("by_hand", "compiled")
    }


def test_what_is_not_declared_is_said_and_is_never_a_number(tmp_path: Path) -> None:
    frame = load_frame([stored(tmp_path)])
    none = frame[frame["operation"] == "cumsum"]
    columns = ["roofline_s", "roofline_cold_s", "efficiency", "bound", "predicted_peak_bytes"]
    assert none[columns].isna().all(axis=None)
    rest = frame[frame["operation"] != "cumsum"]
    assert rest[["roofline_s", "efficiency", "bound"]].notna().all(axis=None)
    assert relative_performance(none).empty
    path = stored(tmp_path, "b")
    written = page_data(load_frame([path]), {path: load_run(path)}, [])["cases"]
    for operation, efficient, predicted, error in zip(
        *(written[name] for name in ("operation", "efficient", "predicted", "error")), strict=True
    ):
        declared = operation != "cumsum"
        assert (efficient != "not declared") is declared
        assert (predicted != "not declared") is declared
        assert error.endswith("held against the baseline's own") is not declared
    text = json.dumps(written)
    assert "NaN" not in text


def test_whole_trainings_are_in_no_ranking_and_older_ones_are_known(tmp_path: Path) -> None:
    run = own_run({"train": SOFTMAX, "softmax": SOFTMAX})
    for entry in run["outcomes"]:
        entry["iterative"] = entry["operation"] == "train"
    add_case(run, "fit", "LinearRegression", (33, 6, 3))  # of an older run, which does not say it
    frame = load_frame([save(run, tmp_path / "a.json")])
    told = frame.drop_duplicates("operation").set_index("operation")["iterative"]
    assert told.astype(bool).to_dict() == {"train": True, "softmax": False, "fit": True}
    assert set(calls(frame)["operation"]) == {"softmax"}
    body = fastest_section(frame).body
    assert "Softmax on" in body
    assert "Train" not in body
    assert set(readme_blocks(frame)) == {"fastest-softmax"}


def test_an_operation_whose_costs_are_half_declared_has_no_bound(tmp_path: Path) -> None:
    """A kernel's own formulas are no bound of its operation, as they were in older runs."""
    run = own_run({"softmax": SOFTMAX})
    for entry in [*run["outcomes"], *(one["extra_info"] for one in run["benchmarks"])]:
        entry["least_bytes"] = None
    assert load_frame([save(run, tmp_path / "a.json")])["roofline_s"].isna().all()


def test_tables_have_the_columns_of_all_axes(tmp_path: Path) -> None:
    frame = load_frame([mixed(tmp_path)])
    for suffix, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        table = read(write_table(frame, tmp_path / f"all.{suffix}"))
        own = table[table["operation"] == "softmax"]
        home = table[table["operation"] != "softmax"]
        assert set(own["classes"]) == {10}
        assert own[["in_features", "out_features"]].isna().all(axis=None)
        assert home["classes"].isna().all()
        assert set(home["in_features"]) == {6}
        assert set(table["batch"]) == {33, 100, 64, 4_096}
    head, row = (tmp_path / "all.csv").read_text("utf-8").splitlines()[:2]
    assert "classes" in head
    assert ".0," not in ",".join(row.split(",")[5:20])


def test_two_runs_are_compared_by_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = own_run(OWN, ["cumsum"], datetime="2026-11-24T05:00:00+00:00")
    for one in second["benchmarks"]:
        extra = one["extra_info"]
        if extra["kernel"] == "by_hand" and extra["sizes"].get("classes") == 1_000:
            for name in ("speedup", "speedup_low", "speedup_high"):
                extra[name] *= 2
    add_own_case(second, "softmax", "plain", {"rows": 64, "classes": 10})  # other axes, same sizes
    second["outcomes"][-1]["fullname"] = second["benchmarks"][-1]["fullname"] = "other"
    paths = [stored(tmp_path), save(second, tmp_path / "b.json")]
    table = compare_runs(*(load_frame([path]) for path in paths))
    faster = table[table["verdict"] == "faster"]
    assert set(faster["case"]) == {"64x1000", "4096x1000"}
    assert list(table.loc[table["why"] == "only in the second run", "axes"]) == ["rows, classes"]
    assert main(["report", "--compare", *map(str, paths)]) == 0
    said = capsys.readouterr().out
    assert "batch × classes" in said
    assert "64 × 1,000" in said
    assert "2.00×" in said


def test_a_filter_takes_an_axis_that_some_operations_have(tmp_path: Path) -> None:
    path, out = mixed(tmp_path), tmp_path / "out"
    for asked, expected in (("classes == 10", {"softmax"}), ("batch > 90", {*"gs"}),
                            ("not in_features == 6", set())):  # fmt: skip
        done = main(["report", str(path), f"--out={out}", "--format=csv", f"--filter={asked}"])
        assert done == (0 if expected else 2)
        if expected:
            found = set(pd.read_csv(out / "report" / "results.csv")["operation"])
            assert {name[: len(next(iter(expected)))] for name in found} == expected


def test_the_history_of_an_operation_without_costs_is_told(tmp_path: Path) -> None:
    paths = [stored(tmp_path, name, datetime=f"2026-11-2{name}T05:00:00+00:00") for name in "34"]
    history = history_of(load_frame(paths), "quick")
    assert history is not None
    assert set(history.points["operation"]) == set(OWN)
    none = history.points[history.points["operation"] == "cumsum"]
    assert set(none["bound"]) == {"not declared"}


def test_the_terminal_shows_own_axes_and_what_errors_were_held_against(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_results(load_frame([stored(tmp_path)]), 5)
    said = capsys.readouterr().out
    assert "batch × classes" in said
    assert "1 × 2 × 16 × 8\n" in said.replace(" " * 3, "").replace(" \n", "\n")
    assert "Errors of cumsum were held against the baseline's own." in said
    assert "torch.nn" not in said
    print_results(load_frame([stored(tmp_path, "b", undeclared=[])]), 5)
    assert "held against" not in capsys.readouterr().out


def test_a_run_of_ones_own_kernels_is_none_of_this_repository(tmp_path: Path) -> None:
    path = stored(tmp_path / "amd-epyc-2-core", operations={"softmax": SOFTMAX})
    problems = find_problems(path, tmp_path)
    assert any("kernels are this repository's; by_hand is not" in one for one in problems)
    assert all("\n" not in one for one in problems)


def test_kernels_of_a_file_that_the_grid_names_are_of_this_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(KERNEL_FILES / "softmax.py")
    quick = GRIDS["quick"].model_copy(update={"kernel_files": (file,)})
    monkeypatch.setitem(GRIDS, "quick", quick)
    run = own_run({})
    for kernel in ("by_hand", "unheard_of"):
        sizes = {"batch": 64, "classes": 10}
        add_own_case(run, "softmax_cross_entropy_backward", kernel, sizes)
    problems = find_problems(save(run, tmp_path / "amd-epyc-2-core" / "a.json"), tmp_path)
    told = [one for one in problems if "kernels are" in one or "says otherwise" in one]
    assert told == ["its kernels are this repository's; unheard_of is not"]


def test_a_layer_s_case_and_another_s_never_meet(tmp_path: Path) -> None:
    """Two operations with the same numbers for their sizes, one of them with a layer's axes."""
    run = build_run([])
    add_case(run, "gradient", "matmul", (4, 6, 3))
    add_own_case(run, "own", "plain", {"a": 4, "b": 6, "c": 3})
    frame = load_frame([save(run, tmp_path / "a.json")])
    assert list(frame["case"]) == ["4x6x3"] * 2
    assert len(facets(frame)) == 2
    shown = [fastest_section(frame[frame["operation"] == one]).body for one in ("gradient", "own")]
    assert "4 × 6 → 3" in shown[0]
    assert "4 × 6 × 3" in shown[1]
