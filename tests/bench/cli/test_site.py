"""A folder for a web server: every link of it is inside, and a failure leaves nothing."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from paths import ROOT
from reports import blank_figures
from run_builder import FEW_KERNELS, build_run, save

from bench.cli.main import main
from bench.experiments.gate_power.analysis import badge, read_trials


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    blank_figures(monkeypatch)
    for slug in ("zen-4", "grace"):
        run = build_run(["gradient"], ((33, 6, 3), (100, 6, 3)), kernels=FEW_KERNELS, slug=slug)
        save(run, tmp_path / "results" / "runs" / slug / "a.json")
    return tmp_path / "results"


def test_a_site_has_a_page_a_machine_all_results_and_a_badge(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site"
    assert main(["site", str(site), f"--results={results}"]) == 0
    assert "2 machines" in capsys.readouterr().out
    pages = {
        name: (site / name / "index.html").read_text("utf-8") for name in (".", "zen-4", "grace")
    }
    assert "grace" in pages["."]
    assert "grace" not in pages["zen-4"]
    table = pd.read_parquet(site / "results.parquet")
    assert set(table["machine"]) == {"zen-4", "grace"}
    assert json.loads((site / "badge.json").read_text())["message"] == "not tried yet"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "site"]


def test_a_site_replaces_nothing_and_a_mistake_leaves_nothing(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    assert main(["site", str(tmp_path / "mine"), f"--results={results}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    shutil.rmtree(results / "runs")
    assert main(["site", str(tmp_path / "site"), f"--results={results}"]) == 2
    assert "a report needs stored runs" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_the_badge_counts_false_alarms_and_is_red_for_more_than_one_in_a_hundred() -> None:
    trials = read_trials(ROOT / "results" / "gate" / "amd-epyc-2-core.jsonl")
    told = badge(trials)
    assert told["color"] == "green"
    assert str(told["message"]).startswith("0 of ")
    failed = [one.model_copy(update={"exit_status": 1}) if one.kind == "a_a" else one
              for one in trials]  # fmt: skip
    assert badge(failed)["color"] == "red"
    assert badge([])["color"] == "lightgrey"
