"""Trials add up over days: what a kill leaves is cut off, and the added work stays what it was."""

import itertools
import math
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from forks import fork_workers
from versions import copy_package, forgetting_versions

from bench.cli.main import main
from bench.common.errors import UserError
from bench.experiments import machine_load
from bench.experiments.gate_power import analysis, worker
from bench.experiments.gate_power import experiment as trials
from bench.experiments.gate_power.experiment import MUTATIONS, Mutation
from bench.experiments.gate_power.worker import COMPILED
from bench.gate.blocks import BASE, HEAD, KernelCase, Spec
from bench.gate.gate import Options
from bench.gate.loading import VersionKernel, load_kernels
from bench.gate.sequential import NO_REGRESSION
from bench.gate.verdict import CaseVerdict, Difference, Verdict
from bench.gate.versions import Version
from bench.measure.memory import measure_memory
from bench.measure.timing import TimedBatch
from bench.run.process import WorkerProcess
from mlr import Case, Problem, check, get_kernel
from mlr.one_pass import codegen as usual_codegen

EMPTY = {"at": "", "commit": None, "exit_status": 0, "wall_s": 1.0, "blocks": 0, "control": None}


def show(text: str) -> None:
    """Show nothing."""


def test_trials_are_added_to_what_is_there_until_there_are_as_many_as_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def run_trial(kind: str, earlier: list[analysis.Trial], *_: Any) -> analysis.Trial:
        given.append(len(earlier))
        return analysis.Trial(kind=kind, suite=analysis.SUITE, cases={}, **EMPTY)

    wanted = {"a_a": analysis.Kind(2), "slowdown-5": analysis.Kind(4, slowed=0.05)}
    monkeypatch.setattr(trials, "run_trial", run_trial)
    monkeypatch.setattr(trials, "KINDS", wanted)
    monkeypatch.setattr(analysis, "KINDS", wanted)
    path = trials.run_trials(["a_a"], 1, math.inf, None, tmp_path, show)
    with path.open("a") as file:
        file.write('{"kind": "slow')  # of a trial that was killed
    assert trials.run_trials(wanted, 2, math.inf, None, tmp_path, show) == path
    # The kind of which most is missing comes first.
    kinds = ["a_a", "slowdown-5", "slowdown-5"]
    assert [trial.kind for trial in analysis.read_trials(path)] == kinds
    assert trials.run_trials(wanted, 9, 0.0, None, tmp_path, show) == path
    assert given == [0, 1, 2]
    trials.run_trials(wanted, math.inf, math.inf, None, tmp_path, show)
    assert given == [*range(6)]
    assert not analysis.missing(analysis.read_trials(path))


def test_one_command_adds_trials_of_several_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {"a": analysis.CaseRecord(timing=None, failures=[], log_ratios=[])}

    def run_trial(kind: str, *_: Any) -> analysis.Trial:
        return analysis.Trial(kind=kind, suite=analysis.SUITE, cases=cases, **EMPTY)

    monkeypatch.setattr(trials, "run_trial", run_trial)
    options = ["--kind", "a_a", "a_a_loaded", "--count", "3", "--out", str(tmp_path)]
    assert main(["experiment", "gate-power", *options]) == 0
    said = capsys.readouterr().out
    (path,) = (tmp_path / "gate").iterdir()
    assert {one.kind for one in analysis.read_trials(path)} == {"a_a", "a_a_loaded"}
    wanted = analysis.KINDS["a_a_interpreters"].wanted
    assert f"still wanted: {wanted} of a_a_interpreters" in said


def test_two_interpreters_are_for_the_kinds_that_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kind,) = analysis.INTERPRETERS
    with pytest.raises(UserError, match="--head-python"):
        trials.run_trials([kind], 1, math.inf, None, tmp_path, show)
    given: list[Options] = []

    def fails(*gate: Any) -> None:
        given.append(gate[3])
        raise InterruptedError

    monkeypatch.setattr(trials, "run_block", lambda *_: ({}, {}))
    monkeypatch.setattr(trials, "run_gate", fails)
    for one in (kind, "a_a"):
        with pytest.raises(InterruptedError):
            trials.run_trial(one, [], "other/python", show, None)
    assert [dict(options.pythons) for options in given] == [
        {BASE: sys.executable, HEAD: "other/python"},
        {},
    ]


@pytest.mark.parametrize("kind", ["slowdown-10", "slowdown-all-10"])
def test_a_slow_down_on_an_accelerator_is_refused(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processor waits while the device does earlier calls: nothing would be slower."""
    on_cuda = [replace(one, case=replace(one.case, device="cuda")) for one in trials.CASES[:2]]
    monkeypatch.setattr(trials, "CASES", on_cuda)
    with pytest.raises(UserError, match=r"got \w+-cuda-.*; slow cases on cpu$"):
        trials.run_trial(kind, [], None, show, None)
    monkeypatch.setattr(trials, "run_block", lambda *_: ({}, {}))
    monkeypatch.setattr(trials, "run_gate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # of unchanged code it is one as any other
        trials.run_trial("a_a", [], None, show, None)


def test_the_suite_has_what_the_gate_gates() -> None:
    names = {one.kernel for one in trials.CASES}
    assert set(COMPILED) <= names
    assert {one.case.dtype for one in trials.CASES} == {"float32", "float64"}
    assert {one.case.operation for one in trials.CASES} == {"gradient", "step", "fit"}
    assert len({one.name for one in trials.CASES}) == len(trials.CASES)  # a delay is a case's


def test_enough_trials_are_wanted() -> None:
    kinds = analysis.KINDS
    assert sum(kinds[name].wanted for name in analysis.UNCHANGED) >= 120
    assert sum(kinds[name].wanted for name in analysis.LOADED) >= 30
    assert sum(kinds[name].wanted for name in analysis.INTERPRETERS) >= 20
    for share in (0.05, 0.10):
        one = [k for n, k in kinds.items() if k.slowed == share and not k.every_case]
        assert sum(kind.wanted for kind in one) >= 30
    assert kinds[analysis.MUTATION].wanted >= 10
    for names in (analysis.UNCHANGED, analysis.SLOWED_ONE):
        assert sum(kinds[name].tools for name in names) >= 20


@pytest.mark.parametrize(
    ("kind", "delayed"),
    [
        ("a_a", 0),
        ("a_a_loaded", 0),
        ("slowdown-10", 1),
        ("slowdown-all-10", len(trials.CASES)),
    ],
)
def test_a_trial_slows_what_its_kind_says(
    kind: str, delayed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    timed: list[str] = []

    def fails(*_: Any) -> None:
        raise InterruptedError

    def run_block(spec: Spec, module: str, protocol: str) -> tuple[dict[str, Any], dict[str, Any]]:
        timed.append(protocol)
        return {}, {}

    monkeypatch.setattr(trials, "put_delays", lambda package, added: asked.append(added))
    monkeypatch.setattr(trials, "run_block", run_block)
    monkeypatch.setattr(trials, "run_gate", fails)
    done = analysis.Trial(kind=kind, suite=analysis.SUITE, cases={}, **EMPTY)
    how = analysis.KINDS[kind]
    alone = how.wanted - max(how.tools, 1)
    of_suite_1 = [done.model_copy(update={"suite": 1})] * 99
    for earlier in (of_suite_1, [done] * (alone - 1), [done] * alone):
        with pytest.raises(InterruptedError):
            trials.run_trial(kind, earlier, None, show, None)
    assert [list(added.values()) for added in asked] == [[how.slowed] * delayed] * 3
    of_all = 2 * sum(one["processes"] for one in trials.PROTOCOLS)
    assert len(timed) == (4 + of_all if how.tools else 6)


@pytest.mark.parametrize(
    ("kind", "failing"),
    [("a_a", len(trials.CASES)), ("slowdown-10", len(trials.CASES) - 1), ("slowdown-all-10", 0)],
)
def test_a_slowed_case_is_not_found_by_its_first_call_in_which_it_is_calibrated(
    kind: str, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_gate(cases: list[KernelCase], *_: Any) -> Verdict:
        late = Difference("first_call_s", 0.01, 0.5, "")
        found = [CaseVerdict(one, NO_REGRESSION, None, [late]) for one in cases]
        return Verdict(found, [], [], None, False, 1.0, [])

    monkeypatch.setattr(trials, "run_block", lambda *_: ({}, {}))
    monkeypatch.setattr(trials, "run_gate", run_gate)
    trial = trials.run_trial(kind, [], None, show, None)
    failed = [name for name, case in trial.cases.items() if case.found_by]
    assert len(failed) == failing
    assert trial.changed not in failed
    assert trial.exit_status == (1 if failing else 0)


def test_a_loaded_trial_has_a_process_on_each_core_and_one_that_copies_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, cores = psutil.Process(), len(os.sched_getaffinity(0))
    before = set(ours.children(recursive=True))

    def look(*_: Any) -> None:
        until = time.monotonic() + 20
        busy: list[psutil.Process] = []
        held = 0
        while (len(busy) <= cores or held <= 2**28) and time.monotonic() < until:
            time.sleep(0.1)
            some = set(ours.children(recursive=True)) - before
            busy = [one for one in some if one.cpu_times().user > 0.05]
            held = max((one.memory_info().rss for one in busy), default=0)
        assert len(busy) == cores + 1
        assert held > 2**28
        raise InterruptedError

    monkeypatch.setattr(trials, "run_block", lambda *_: ({}, {}))
    monkeypatch.setattr(trials, "run_gate", look)
    with pytest.raises(InterruptedError):
        trials.run_trial("a_a_loaded", [], None, show, None)
    assert not set(ours.children(recursive=True)) - before


def test_a_load_that_ends_by_itself_makes_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_load, "LOAD", "raise SystemExit(3)")
    monkeypatch.setattr(trials, "run_block", lambda *_: ({}, {}))
    monkeypatch.setattr(trials, "run_gate", lambda *_: None)
    wait = WorkerProcess.wait
    monkeypatch.setattr(
        WorkerProcess, "wait", lambda load, _: any(wait(load, 0.1) for _ in range(200))
    )
    with pytest.raises(UserError, match="as long as its trial"):
        trials.run_trial("a_a_loaded", [], None, show, None)


def loaded(folder: Path) -> dict[str, VersionKernel]:
    """Return the kernels of a copy of the package."""
    with forgetting_versions():
        return load_kernels(folder, "mlr_test_copy")


def put_delays(folder: Path, shares: dict[str, float]) -> None:
    """Put delays into a copy of the package in a folder."""
    trials.put_delays(copy_package(folder) / "mlr", shares)


def test_a_delay_is_in_every_call_of_its_case_and_in_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of 4 s that shall be slower by a half wait for 2 s, on a clock that ticks when read."""
    reads = itertools.count()
    monkeypatch.setattr(worker, "wall_clock", lambda: float(next(reads)))
    monkeypatch.setattr(worker, "seconds_per_call", lambda call, device: 4.0)
    by_kernel = {one.kernel: one for one in trials.CASES}
    slowed, other = by_kernel["outer_sum"], by_kernel["autograd"]
    same_kernel = replace(slowed, case=replace(slowed.case, batch=33))
    put_delays(tmp_path, {slowed.name: 0.5})
    kernels = loaded(tmp_path)
    for one, waited in ((slowed, 3), (other, 0), (same_kernel, 0)):
        call, before = kernels[one.kernel].bind(Problem(one.case)), next(reads)
        call()
        assert next(reads) - before - 1 == waited


def test_a_slow_sweep_is_right_and_reads_more_and_only_that_of_its_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a call's time, where reading all of X takes one call's time, is reading half of X."""
    case = Case("gradient", "cpu", "float32", 100, 16, 8)

    def seconds_per_call(call: Any, device: str) -> float:
        return 8.0 if worker.EXTRA.value else 4.0

    monkeypatch.setattr(worker, "seconds_per_call", seconds_per_call)
    put_delays(tmp_path, {f"one_pass-{case.id}": 0.5})
    with forgetting_versions():
        kernels, problem = load_kernels(tmp_path, "mlr_test_copy"), Problem(case)
        codegen = sys.modules["mlr_test_copy.one_pass.codegen"]
    call = kernels["one_pass"].bind(problem)
    assert worker.EXTRA.value == 100 * 16 * 4 // 8 // 2
    assert check(get_kernel("one_pass"), problem, call).reason is None
    texts = {}
    for operation in ("gradient", "step"):
        own, usual = (
            one.Source(operation, one.layout(100, 16, 8, "float32", one.AVX512), "float32").text()
            for one in (codegen, usual_codegen)
        )
        texts[operation] = own != usual
    assert texts == {"gradient": True, "step": False}
    kernels["one_pass_step"].bind(Problem(Case("step", "cpu", "float32", 100, 16, 8)))
    assert worker.EXTRA.value == 0


def test_more_is_never_read_than_x_has(tmp_path: Path) -> None:
    """A count beyond any memory would end the process."""
    case = Case("step", "cpu", "float64", 33, 6, 3)
    put_delays(tmp_path, {f"one_pass_step-{case.id}": 0.1})
    call = loaded(tmp_path)["one_pass_step"].bind(Problem(case))
    worker.EXTRA.value = 2**60
    call()


@pytest.mark.parametrize("protocol", trials.PROTOCOLS, ids=lambda one: next(iter(one["rules"])))
def test_rounds_are_those_of_a_protocol(
    protocol: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that take 1 ms: rounds of as many calls as a round has time for, as many as it says."""
    one, made = trials.CASES[0], []

    def time_batch(call: Any, repeats: int, device: str) -> TimedBatch:
        made.append(repeats)
        return TimedBatch(0.001, 0.001)

    monkeypatch.setattr(worker, "warm_up", lambda *_: 0.001)
    monkeypatch.setattr(worker, "time_batch", time_batch)
    kernels = {HEAD: VersionKernel(sys.modules["mlr"], get_kernel(one.kernel))}
    found = worker.time_rounds(protocol, one, kernels, Spec({}, [one]))["rounds"]
    of_a_round = max(1, int(protocol["round_s"] * 1_000))
    assert made == [of_a_round] * max(protocol["rounds"], int(protocol["rounds_s"] * 1_000))
    assert found == [0.001] * len(made)


def test_versions_take_turns_where_their_protocol_interleaves_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run_block(spec: Spec, module: str, protocol: str) -> tuple[dict[str, Any], dict[str, Any]]:
        ran.append(spec.folders[HEAD])
        return {}, {"a": {"rounds": [float(len(ran))]}}

    monkeypatch.setattr(trials, "run_block", run_block)
    versions = [Version(name, Path(name), None, None) for name in "bh"]
    how = {"processes": 2, "interleaved": True}
    assert trials.time_versions(how, [], *versions) == [{"a": [1.0, 3.0]}, {"a": [2.0, 4.0]}]
    assert trials.time_versions(how | {"interleaved": False}, [], *versions)
    assert ran == [*"bhbh", *"bbhh"]


def test_a_protocol_runs_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork_workers(monkeypatch)
    version = Version("here", copy_package(tmp_path), None, None)
    one = trials.CASES[0]
    (found,) = trials.time_versions(trials.PROTOCOLS[0], [one], version)
    assert len(found[one.name]) == trials.PROTOCOLS[0]["rounds"]
    assert min(found[one.name]) > 0


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=lambda mutation: mutation.name)
def test_a_mutations_result_is_right_and_only_its_cost_is_another(
    mutation: Mutation, tmp_path: Path
) -> None:
    mutation.put_into(copy_package(tmp_path) / "mlr")
    kernel: Any = loaded(tmp_path)[mutation.kernel]
    problem, original = Problem(mutation.case), get_kernel(mutation.kernel)
    assert check(original, problem, kernel.bind(problem)).reason is None


@pytest.mark.parametrize("name", ["an extra .contiguous()", "the Kronecker way", "a lost in-place"])
def test_a_mutation_that_allocates_more_holds_more(name: str, tmp_path: Path) -> None:
    mutation = MUTATIONS[name]
    mutation.put_into(copy_package(tmp_path) / "mlr")
    kernel: Any = loaded(tmp_path)[mutation.kernel]
    before = measure_memory(get_kernel(mutation.kernel), mutation.case).peak_bytes
    assert measure_memory(kernel, mutation.case).peak_bytes > before


def test_a_mutation_that_no_longer_fits_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mlr").mkdir()
    for text in ("x @ delta", 2 * "x.T @ delta"):
        (tmp_path / "mlr" / "gradients.py").write_text(text)
        with pytest.raises(ValueError, match="must hold"):
            MUTATIONS["an extra .contiguous()"].put_into(tmp_path / "mlr")


@pytest.mark.parametrize("mutation", [*MUTATIONS.values()][::6], ids=lambda one: one.name)
def test_a_mutation_is_in_the_head_alone_and_a_baseline_stands_beside_it(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(cases: list[KernelCase], base: Version, head: Version, *_: Any) -> None:
        path = Path("mlr", mutation.file or f"{mutation.case.operation}s.py")
        texts = [(one.folder / path).read_text() for one in (base, head)]
        assert [mutation.old in texts[0], mutation.new in texts[1]] == [True, True]
        assert texts[0] != texts[1]
        beside = {"gradient": "autograd", "step": "torch_nn"}[mutation.case.operation]
        assert [one.kernel for one in cases] == [mutation.kernel, beside]
        raise InterruptedError

    monkeypatch.setattr(trials, "run_gate", look)
    with pytest.raises(InterruptedError):
        trials.run_trial(analysis.MUTATION, [], None, show, mutation)


@pytest.mark.slow
def test_a_mutation_is_a_trial_of_its_own_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole trial, which has no time for blocks."""
    name = "the Kronecker way"
    monkeypatch.setattr(trials, "Options", partial(Options, max_time_s=1.0))
    monkeypatch.setattr(trials, "missing", lambda earlier: {(analysis.MUTATION, name): 1})
    path = trials.run_trials([analysis.MUTATION], 1, math.inf, None, tmp_path, show)
    row = analysis.mutations_table(analysis.to_frame(analysis.read_trials(path))).iloc[0]
    assert row["found"] == "1 of 1"
    assert row["by"].startswith("flops, peak_bytes")
    assert row["false alarms"] == "0"
