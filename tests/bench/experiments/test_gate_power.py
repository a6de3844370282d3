"""Trials add up over days: what a kill leaves is cut off, and the added work stays what it was."""

import sys
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from versions import copy_package, forgetting_versions

from bench.experiments.gate_power import analysis, worker
from bench.experiments.gate_power import experiment as trials
from bench.experiments.gate_power.experiment import MUTATIONS, Mutation
from bench.gate.blocks import HEAD, Spec
from bench.gate.gate import Options
from bench.gate.loading import VersionKernel, load_kernels
from bench.measure.memory import measure_memory
from bench.measure.paired import LocalTarget
from bench.measure.timing import TimedBatch
from mlr import Problem, check, get_kernel

SUITE = trials.SUITES["usual"]
EMPTY = {"at": "", "commit": None, "exit_status": 0, "wall_s": 1.0, "blocks": 0, "control": None}


def show(text: str) -> None:
    """Show nothing."""


def test_trials_are_added_to_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def run_trial(kind: str, number: int, *_: Any) -> analysis.Trial:
        given.append(number)
        return analysis.Trial(kind=kind, cases={}, **EMPTY)

    monkeypatch.setattr(trials, "run_trial", run_trial)
    path = trials.run_trials("a_a", 2, tmp_path, show)
    with path.open("a") as file:
        file.write('{"kind": "slow')  # of a trial that was killed
    assert trials.run_trials("slowdown-5", 1, tmp_path, show) == path
    assert [trial.kind for trial in analysis.read_trials(path)] == ["a_a", "a_a", "slowdown-5"]
    assert given == [0, 1, 2]


def test_a_suite_has_each_kernel_once_for_a_delay_is_a_kernels() -> None:
    for suite in trials.SUITES.values():
        assert len({one.kernel for one in suite}) == len(suite)


@pytest.mark.parametrize(
    ("kind", "delayed"),
    [("a_a", 0), ("a_a_loaded", 0), ("slowdown-10", 1), ("slowdown-all-10", len(SUITE))],
)
def test_a_trial_slows_what_its_kind_says(
    kind: str, delayed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def fails(*_: Any) -> None:
        raise InterruptedError

    monkeypatch.setattr(trials, "put_delays", lambda package, added: asked.append(added))
    monkeypatch.setattr(trials, "run_block", lambda *_: ({}, {}))
    monkeypatch.setattr(trials, "run_gate", fails)
    with pytest.raises(InterruptedError):
        trials.run_trial(kind, 0, show, None)
    assert [list(added.values()) for added in asked] == [[analysis.KINDS[kind].slowed] * delayed]


def loaded(folder: Path) -> dict[str, VersionKernel]:
    """Return the kernels of a copy of the package."""
    with forgetting_versions():
        return load_kernels(folder, "mlr_test_copy")


def test_a_delay_is_in_every_call_of_its_kernel_and_in_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of 4 s that shall be slower by a half wait for 2 s, on a clock that ticks when read."""
    reads = count()
    monkeypatch.setattr(worker, "wall_clock", lambda: float(next(reads)))
    monkeypatch.setattr(LocalTarget, "time_batch", lambda ready: TimedBatch(4.0, 4.0))
    worker.put_delays(copy_package(tmp_path) / "mlr", {"matmul": 0.5, "fused_addmm": 0.5})
    kernels = loaded(tmp_path)
    for one, waited in zip(SUITE[:7:3], (3, 0, 3), strict=True):
        call, before = kernels[one.kernel].bind(Problem(one.case)), next(reads)
        call()
        assert next(reads) - before - 1 == waited


def test_rounds_are_those_of_one_version() -> None:
    one = SUITE[0]
    kernels = {HEAD: VersionKernel(sys.modules["mlr"], get_kernel(one.kernel))}
    rounds = worker.time_rounds(one, kernels, Spec({}, [one]))["rounds"]
    assert len(rounds) == worker.ROUNDS
    assert min(rounds) > 0


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutations_result_is_right_and_only_its_cost_is_another(
    mutation: Mutation, tmp_path: Path
) -> None:
    mutation.put_into(copy_package(tmp_path) / "mlr")
    kernel: Any = loaded(tmp_path)[mutation.kernel]
    problem, original = Problem(mutation.case), get_kernel(mutation.kernel)
    assert check(original, problem, kernel.bind(problem)).reason is None
    if mutation.name == "a Python loop over rows":
        return  # it costs time alone, which decides no test
    before = measure_memory(original, mutation.case).peak_bytes
    assert measure_memory(kernel, mutation.case).peak_bytes > before


def test_a_mutation_that_no_longer_fits_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mlr").mkdir()
    (tmp_path / "mlr" / "gradients.py").write_text("def matmul(): pass\n@kernel(x.T @ delta)")
    with pytest.raises(ValueError, match="must hold"):
        MUTATIONS[0].put_into(tmp_path / "mlr")


def test_a_mutation_is_a_trial_of_its_own_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole trial, which has no time for blocks."""
    one = next(mutation for mutation in MUTATIONS if mutation.name == "the Kronecker way")
    monkeypatch.setattr(trials, "MUTATIONS", (one,))
    monkeypatch.setattr(trials, "Options", partial(Options, max_time_s=1.0))
    path = trials.run_trials(analysis.MUTATION, 1, tmp_path, show)
    row = analysis.mutations_table(analysis.to_frame(analysis.read_trials(path))).iloc[0]
    assert row["found"] == "1 of 1"
    assert row["by"].startswith("flops, peak_bytes")
    assert row["false alarms"] == "0"
