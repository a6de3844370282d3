"""Publishing: REPORT.md and a few figures, under names that hold; checked, then written."""

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from paths import ROOT
from reports import blank_figures, full_disk_at, links, snapshot
from run_builder import FEW_KERNELS, KERNELS, build_run, save

from bench.cli.main import main
from bench.common.errors import UserError
from bench.overhead.section import every_subject
from bench.report import publishing
from bench.report.build import analyses_of
from bench.report.publishing import candidates
from bench.report.subject import subjects
from bench.store.runs import load_run, runs_frame

STORED = ROOT / "results"
FEW = ((33, 6, 3), (100, 6, 3))
README = """# mine
<!-- generated: jacobian -->
<!-- end: jacobian -->
kept
<!-- generated: fastest-step -->
<!-- end: fastest-step -->
"""


def run_of(grid: str, operations: tuple[str, ...], **given: Any) -> dict[str, Any]:
    run = build_run(operations, given.pop("sizes", FEW), kernels=FEW_KERNELS, **given)
    run["settings"]["grid"] = grid
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with every subject, below a folder whose name a link must quote."""
    folder = tmp_path_factory.mktemp("made") / "my results"
    for grid, operations in (
        ("quick", ("gradient", "step")),
        ("tall", ("step",)),
        ("wide", ("step",)),
    ):
        run = run_of(grid, operations)
        run["commit_info"]["id"] = "c0ffee" + "0" * 34
        save(run, folder / "runs" / "amd-epyc-2-core" / f"20261123T050000Z-c0ffee00-{grid}.json")
    for name in ("gate", "convergence", "scaling"):
        shutil.copytree(STORED / name, folder / name)
    (folder.parent / "README.md").write_text(README)
    return folder


@pytest.fixture(scope="module")
def published(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, once published."""
    folder = tmp_path_factory.mktemp("published") / "one"
    shutil.copytree(made.parent, folder)
    with pytest.MonkeyPatch.context() as patch:
        blank_figures(patch)
        assert publish(folder / made.name) == 0
    return folder / made.name


@pytest.fixture
def results(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return copied(made, tmp_path, monkeypatch)


@pytest.fixture
def again(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return copied(published, tmp_path, monkeypatch)


def copied(folder: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    blank_figures(monkeypatch)
    shutil.copytree(folder.parent, to, dirs_exist_ok=True)
    return to / folder.name


def publish(results: Path, *more: str) -> int:
    readme = results.parent / "README.md"
    return main(["report", f"--out={results}", f"--readme={readme}", "--format=md", *more])


def test_figures_are_published_under_names_that_hold(published: Path) -> None:
    results = published
    figures = {path.name for path in (results / "figures").iterdir()}
    kinds = ("fastest", "time", "roofline", "memory")
    own = [f"{kind}-{operation}" for kind in kinds for operation in ("gradient", "step")]
    assert figures == {f"{name}.png" for name in (*own, "jacobian", "convergence", "scaling")}
    for name in figures:
        assert not [part for part in ("2026", "c0ffee", "amd", "epyc", "quick") if part in name]
    text = (results / "REPORT.md").read_text(encoding="utf-8")
    assert text == (results / "report" / "REPORT.md").read_text(encoding="utf-8")
    assert sorted(links(text)) == sorted(f"figures/{name}" for name in figures)
    for folder in (results, results / "report"):
        assert all((folder / link).is_file() for link in links(text))
    assert text.count("results/report/results.csv") == 1
    readme = (results.parent / "README.md").read_text(encoding="utf-8")
    assert links(readme) == ["my%20results/figures/jacobian.png"]
    assert all((results.parent / unquote(link)).is_file() for link in links(readme))
    assert "kept" in readme


def test_publishing_again_changes_nothing_and_takes_stale_figures_away(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(again.parent)
    (again / "figures" / "old.png").write_text("stale")
    assert publish(again) == 0
    assert snapshot(again.parent) == before
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert "11 figures" in said[1]


def test_a_plain_report_leaves_all_but_its_own_folder_as_it_was(again: Path) -> None:
    results = again
    save(run_of("full", ("gradient",), datetime="2026-11-25T05:00:00+00:00"),
         results / "runs" / "amd-epyc-2-core" / "20261125T050000Z-c0ffee00-full.json")  # fmt: skip

    def kept() -> dict[str, bytes]:
        whole = snapshot(results.parent)
        return {name: held for name, held in whole.items() if "my results/report/" not in name}

    before, report = kept(), (results / "report" / "REPORT.md").read_bytes()
    assert main(["report", f"--out={results}", "--format=md,csv"]) == 0
    assert kept() == before
    assert (results / "report" / "REPORT.md").read_bytes() != report


@pytest.mark.parametrize(
    ("readme", "more", "said"),
    [
        (None, (), "must be readable"),
        ("no marks", (), "each block once"),
        (README, ("--filter=batch > 1",), "got --filter with --readme"),
        (README, ("--out=elsewhere",), "elsewhere/REPORT.md is of another origin"),
    ],
)
def test_it_is_checked_before_anything_is_written(
    readme: str | None, more: tuple[str, ...], said: str, results: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = results.parent / "README.md"
    file.unlink()
    if readme is not None:
        file.write_text(readme)
    monkeypatch.chdir(results.parent)
    Path("elsewhere").mkdir()
    Path("elsewhere", "REPORT.md").write_text("mine")
    before = snapshot(results.parent)
    assert publish(results, *more) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert snapshot(results.parent) == before


@pytest.mark.parametrize("call", [1, 3, 4])
def test_a_full_disk_keeps_what_was_published(
    call: int, again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(again)
    full_disk_at(call, monkeypatch)
    with pytest.raises(UserError, match=r"No space left on device; the old report stays"):
        publishing.publish(again / "report", again)
    assert snapshot(again) == before
    assert not list(again.glob(".report-*"))
    monkeypatch.undo()
    assert len(publishing.publish(again / "report", again)) == 1 + publishing.MAX_FIGURES


def shown_of(folder: Path, **runs: dict[str, Any]) -> dict[str, str]:
    """Return the stem of each figure that REPORT.md would show of some runs."""
    loaded = {}
    for name, run in runs.items():
        path = save(run, folder / run["machine"]["slug"] / f"{name}.json")
        loaded[path] = load_run(path)
    frame = runs_frame(loaded.items())
    return candidates(analyses_of(loaded, frame), subjects(every_subject(), frame))


def test_of_several_the_one_with_the_most_measured_cases_is_shown(tmp_path: Path) -> None:
    wider = (*FEW, (1_000, 6, 3))
    assert shown_of(
        tmp_path,
        a=run_of("quick", ("gradient",), sizes=wider, dtype="float32", slug="one"),
        b=run_of("quick", ("gradient",), sizes=wider, slug="two"),
        c=run_of("tall", ("step",), slug="one"),
        d=run_of("tall", ("step",), sizes=wider, slug="two"),
        e=run_of("smoke", ("step",), sizes=(*wider, (2_000, 6, 3)), slug="three"),
    ) == {
        "fastest-gradient": "two-b-gradient-cpu-float64-fastest",
        "fastest-step": "three-step-cpu-float64-fastest",
        "jacobian": "two-b-gradient-cpu-float64-jacobian",
        "time-gradient": "two-b-gradient-cpu-float64-time",
        "roofline-step": "three-step-cpu-float64-roofline",
        "memory-gradient": "two-b-gradient-cpu-float64-memory",
        "time-step": "three-step-cpu-float64-time",
        "roofline-gradient": "two-b-gradient-cpu-float64-roofline",
        "memory-step": "three-step-cpu-float64-memory",
    }


def test_what_is_not_stored_has_no_figure(tmp_path: Path) -> None:
    light = {"gradient": {name: KERNELS["gradient"][name] for name in ("autograd", "matmul")}}
    run = build_run(["gradient"], FEW, kernels=light)
    found = shown_of(tmp_path, a=run)
    assert set(found) == {f"{name}-gradient" for name in ("fastest", "time", "memory", "roofline")}
    assert shown_of(tmp_path, b=build_run([], slug="none")) == {}
