"""From stored runs to the tuning table that `auto` follows."""

import json
from pathlib import Path

import pytest
import torch
from choices import forget_choices
from own_operations import add_own_case
from run_builder import build_run, save

from bench.cli.commands import tune
from bench.cli.main import main
from mlr import Case, dispatch, tuning


@pytest.fixture
def rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings" / "tuning.json"
    monkeypatch.setenv(tuning.TABLE_VARIABLE, str(path))
    monkeypatch.setattr(tune, "machine_slug", lambda: "here")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    forget_choices()
    return path


def stored(path: Path, when: str = "2026-01-01T00:00:00+00:00", machine: str = "here") -> Path:
    run = build_run(["gradient", "step"], ((33, 6, 3), (10_000, 256, 64)))
    run["machine"]["slug"], run["datetime"] = machine, when
    return save(run, path)


def test_auto_follows_what_a_run_and_a_trial_of_threads_found(
    rule: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "measure_part_flops", lambda: 12_345)
    run = stored(tmp_path / "run.json")
    assert main(["tune", str(run)]) == 0
    assert tuning.current_table().part_flops == 12_345
    found = {
        one.operation: one for one in tuning.read_table(rule).fastest if one.sizes == (33, 6, 3)
    }
    assert found["step"].kernel == "fused_addmm"
    assert dispatch.select_kernel(Case("step", "cpu", "float64", 40, 6, 3)).name == "fused_addmm"
    assert dispatch.select_kernel(Case("gradient", "cpu", "float64", 33, 6, 3)).name == "matmul"


@pytest.mark.usefixtures("rule")
def test_operations_without_an_auto_are_left_out_whatever_their_axes(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.json")
    run = json.loads(path.read_text())
    for kernel in ("plain", "matmul"):  # of which one has the name of a kernel that auto may take
        add_own_case(run, "softmax", kernel, {"batch": 33, "classes": 10}, 2.0)
    both = save(run, tmp_path / "both.json")
    texts = [tune.make_table([one])[0] for one in (path, both)]
    assert texts[0] == texts[1]
    sizes = {tuple(one[3:6]) for one in json.loads(texts[0])["fastest"]}
    assert sizes == {(33, 6, 3), (10_000, 256, 64)}


def test_a_run_of_another_machine_makes_no_rule(
    rule: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stored(tmp_path / "run.json", machine="elsewhere")
    assert main(["tune", str(run)]) == 2
    error = capsys.readouterr().err
    assert "a tuning table needs a run of this machine, here; found none" in error
    assert error.count("\n") == 1
    assert not rule.exists()


def test_a_rule_that_cannot_be_written_is_one_line(
    rule: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule.parent.write_text("a file where a folder is needed")
    assert main(["tune", str(stored(tmp_path / "run.json"))]) == 2
    assert "the tuning table must be writable" in capsys.readouterr().err


def test_it_says_what_it_writes_who_reads_it_and_how_to_undo_it(
    rule: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, own = str(stored(tmp_path / "run.json")), tmp_path / "mlr" / "tuning.json"
    effect = "mlr reads this file from now on, in every program of this user on this machine"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for path, where in ((rule, " where MLR_TUNING_TABLE names it"), (own, "")):
        assert main(["tune", run]) == 0
        written, said = capsys.readouterr().out.splitlines()
        assert written.startswith(f"{path}: the fastest kernel of ")
        assert said == f"{effect}{where}; remove it to undo"
        assert tuning.read_table(path).fastest
        monkeypatch.delenv(tuning.TABLE_VARIABLE, raising=False)
    own.unlink()
    forget_choices()
    assert tuning.current_table() == tuning.TuningTable()


def test_a_dry_run_shows_the_rule_and_writes_nothing(
    rule: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, before = str(stored(tmp_path / "run.json")), sorted(tmp_path.rglob("*"))
    assert main(["tune", run, "--dry-run"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    shown = capsys.readouterr()
    assert shown.err.startswith(f"{rule}: the fastest kernel of ")
    assert shown.err.endswith("; nothing is written\n")
    assert main(["tune", run]) == 0
    assert rule.read_text() == shown.out


def test_the_help_of_rule_names_the_file_and_the_undo(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["tune", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for part in ("~/.config/mlr/tuning.json", "MLR_TUNING_TABLE", "every program of this user",
                 "remove the file to undo it", "--dry-run"):  # fmt: skip
        assert part in told


def test_a_thread_is_worth_what_it_always_won_from_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that win at some small size by chance, but lose at a larger one, do not count."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    wins = {case_m: case_m >= 2**14 or case_m == 2**9 for case_m in tune.TRIED_ROWS}
    monkeypatch.setattr(tune, "_parts_win", lambda case, threads: wins[case.batch])
    assert tune.measure_part_flops() == 4 * 2**14 * 32 * 4 // 2  # the larger of both shapes
    monkeypatch.setattr(tune, "_parts_win", lambda case, threads: case.out_features == 3)
    assert tune.measure_part_flops() is None
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert tune.measure_part_flops() is None
