"""The command `report`: about the folder or the runs that it is given, and nothing beside them."""

import shutil
from pathlib import Path

import pytest
from paths import ROOT
from reports import blank_figures, snapshot
from run_builder import FEW_KERNELS, build_run, save

from bench.cli.main import main

FEW = ((33, 6, 3), (100, 6, 3))
BESIDE = ("Is the gate to be trusted?", "![Convergence]", "![Scaling]", "What changed since")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing."""
    blank_figures(monkeypatch)


def stored(results: Path, name: str, day: int = 1, slug: str = "mine") -> Path:
    at = f"2026-11-{day:02}T05:00:00+00:00"
    run = build_run(["gradient"], FEW, kernels=FEW_KERNELS, slug=slug, datetime=at)
    return save(run, results / "runs" / slug / f"{name}.json")


def test_it_reads_the_runs_of_its_folder_and_nothing_of_the_projects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, "first")
    before = snapshot(tmp_path)
    assert main(["report", f"--out={tmp_path}", "--format=md"]) == 0
    assert capsys.readouterr().err == ""
    text = (tmp_path / "report" / "REPORT.md").read_text(encoding="utf-8")
    assert "run first, 1 thread" in text
    assert not [title for title in BESIDE if title in text]
    written = snapshot(tmp_path).keys() - before.keys()
    assert {name.split("/")[0] for name in written} == {"report"}


def test_what_lies_beside_the_runs_is_shown_unless_runs_are_named(tmp_path: Path) -> None:
    for name in ("gate", "convergence", "scaling"):
        shutil.copytree(ROOT / "results" / name, tmp_path / name)
    paths = [stored(tmp_path, "first", 1), stored(tmp_path, "second", 2)]
    report = tmp_path / "report" / "REPORT.md"
    assert main(["report", f"--out={tmp_path}", "--format=md"]) == 0
    text = report.read_text(encoding="utf-8")
    assert [one for one in BESIDE if one in text] == list(BESIDE)
    assert "run second, 1 thread" in text
    assert main(["report", str(paths[0]), f"--out={tmp_path}", "--format=md"]) == 0
    text = report.read_text(encoding="utf-8")
    assert not [title for title in BESIDE if title in text]
    assert "run first, 1 thread" in text
    assert "run second" not in text


@pytest.mark.parametrize("made", ["", "runs", "runs/mine"])
def test_a_folder_without_runs_is_one_line(
    made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "R" / made).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert main(["report", "--out=R"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: a report needs stored runs: R/runs has none; measure with ")
    assert "`python -m bench run --out R`" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "R" / "report").exists()


def test_the_last_line_says_how_much_was_written_where_and_what_to_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, "first")
    report = tmp_path / "report"
    # Of the eight files five are figures, one more figure the page's, and two the texts.
    for formats, files, first in (
        ("html,md", "8 files", "report.html"),
        ("csv,md,parquet", "8 files", "REPORT.md"),
        ("parquet", "1 file", "results.parquet"),
    ):
        assert main(["report", f"--out={tmp_path}", f"--format={formats}"]) == 0
        said = capsys.readouterr().out
        assert said == f"wrote {files} under {report}; open {report / first}\n"
