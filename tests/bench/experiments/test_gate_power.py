"""Trials add up over days: what a kill leaves is cut off, and the added work stays what it was."""

import json
import shutil
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from bench.experiments.gate_power import experiment as trials
from bench.experiments.gate_power.analysis import KINDS, MUTANT, mutants_table, read_trials
from bench.experiments.gate_power.mutants import MUTANTS, Mutant
from bench.gate.gate import Options, Progress
from bench.gate.versions import load
from bench.measure.memory import peak_bytes
from mlr import Problem, get_kernel


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Trials that measure nothing; returns the work that each was given."""
    given: list[Any] = []

    def trial(kind: str, number: int, work: Any, *_: Any) -> dict[str, Any]:
        given.append(work)
        return {"kind": kind, "number": number, "work": work}

    monkeypatch.setattr(trials, "_trial", trial)
    monkeypatch.setattr(trials, "calibrate", lambda blocks: {"calibrated": len(given)})
    return given


def show(progress: Progress) -> None:
    """Show nothing."""


def test_trials_are_added_to_what_is_there(tmp_path: Path, quick: list[Any]) -> None:
    path = trials.run_trials("same", 2, tmp_path, show)
    assert trials.run_trials("slow5", 1, tmp_path, show) == path
    assert [trial["kind"] for trial in read_trials(path)] == ["same", "same", "slow5"]
    assert [trial["number"] for trial in read_trials(path)] == [0, 1, 2]
    assert quick == [{"calibrated": 0}] * 3  # it is the same experiment on every day


def test_a_trial_that_was_killed_is_done_anew(tmp_path: Path, quick: list[Any]) -> None:
    path = trials.run_trials("same", 2, tmp_path, show)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "slow5", "wor')
    trials.run_trials("slow10", 1, tmp_path, show)
    assert path.read_bytes().startswith(whole)
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()][2:] == ["slow10"]


def test_the_suite_is_large_enough_and_every_kind_has_its_share() -> None:
    assert len(trials.SUITE) >= 8
    assert len({entry.name for entry in trials.SUITE}) == len(trials.SUITE)
    assert {share for share in KINDS.values() if share} == {0.05, 0.10, 0.20}


def mutated(mutant: Mutant, folder: Path) -> Any:
    """Return the package with the mutated kernel, out of a copy."""
    shutil.copytree(ROOT / "mlr", folder / "mlr", ignore=shutil.ignore_patterns("__pycache__"))
    mutant.put_into(folder / "mlr")
    try:
        return load(folder, "mlr_test_mutant")
    finally:
        for name in [n for n in sys.modules if n.startswith("mlr_test_mutant")]:
            del sys.modules[name]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutants_result_is_right_and_only_its_cost_is_another(
    mutant: Mutant, tmp_path: Path
) -> None:
    side = mutated(mutant, tmp_path)
    kernel = side.KERNELS[mutant.kernel]
    problem = side.Problem(side.Case(**asdict(mutant.case)))
    assert side.check(kernel, problem, kernel.bind(problem)).reason is None
    if mutant.name == "a Python loop over rows":
        return  # it costs time alone, which decides no test
    before = peak_bytes(get_kernel(mutant.kernel), Problem(mutant.case))
    assert peak_bytes(kernel, Problem(mutant.case)) > before


def test_a_mutant_that_no_longer_fits_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mlr").mkdir()
    (tmp_path / "mlr" / "gradients.py").write_text("def matmul(): pass\n@kernel(x.T @ delta)")
    with pytest.raises(ValueError, match="must hold"):
        MUTANTS[0].put_into(tmp_path / "mlr")


def test_a_mutant_is_a_trial_of_its_own_kind(
    tmp_path: Path, quick: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = next(mutant for mutant in MUTANTS if mutant.name == "the Kronecker way")
    monkeypatch.setattr(trials, "MUTANTS", (loop,))
    monkeypatch.setattr(trials, "Options", partial(Options, budget_s=1.0))
    path = trials.run_trials(MUTANT, 1, tmp_path, show)
    row = mutants_table(read_trials(path)).iloc[0]
    assert row["found"] == "1 of 1"
    assert row["by"].startswith("bytes, operations")
    assert row["alarms beside"] == "0"
    trials.run_trials("same", 1, tmp_path, show)  # its work is not a mutant's
    assert [trial["kind"] for trial in read_trials(path)] == [MUTANT, "same"]
