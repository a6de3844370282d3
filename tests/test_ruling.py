"""From stored runs to the rule that `auto` follows."""

from pathlib import Path

import pytest

from bench import ruling
from bench.__main__ import main
from mlr import Case, choice
from tests.run_builder import build_run, save


@pytest.fixture
def rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings" / "rule.json"
    monkeypatch.setenv(choice.RULE_VARIABLE, str(path))
    monkeypatch.setattr(ruling, "machine_slug", lambda: "here")
    for known in (choice.read_rule, choice.chosen):
        known.cache_clear()
    return path


def stored(path: Path, when: str = "2026-01-01T00:00:00+00:00", machine: str = "here") -> Path:
    run = build_run(["gradient", "step"], ((33, 6, 3), (10_000, 256, 64)))
    run["machine"]["slug"], run["datetime"] = machine, when
    return save(run, path)


def test_auto_follows_what_a_run_found(rule: Path, tmp_path: Path) -> None:
    run = stored(tmp_path / "run.json")
    assert main(["rule", str(run)]) == 0
    found = {one.stage: one for one in choice.read_rule(rule) if one.sizes == (33, 6, 3)}
    assert found["step"].kernel == "fused_addmm"
    assert choice.chosen(Case("step", "cpu", "float64", 40, 6, 3)).name == "fused_addmm"
    assert choice.chosen(Case("gradient", "cpu", "float64", 33, 6, 3)).name == "matmul"


def test_a_run_of_another_machine_makes_no_rule(
    rule: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stored(tmp_path / "run.json", machine="elsewhere")
    assert main(["rule", str(run)]) == 2
    error = capsys.readouterr().err
    assert "a rule needs a run of this machine, here; found none" in error
    assert error.count("\n") == 1
    assert not rule.exists()


def test_a_rule_that_cannot_be_written_is_one_line(
    rule: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule.parent.write_text("a file where a folder is needed")
    assert main(["rule", str(stored(tmp_path / "run.json"))]) == 2
    assert "the rule must be writable" in capsys.readouterr().err
