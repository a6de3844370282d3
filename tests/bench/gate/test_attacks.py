"""Heads that are worse in one way each, which the gate must say; and those that are not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from versions import copy_package, forgetting_versions

import mlr
from bench.gate import blocks, gate, worker
from bench.gate.blocks import BASE, CONTROL, HEAD, KernelCase, Spec
from bench.gate.config import Thresholds
from bench.gate.loading import VersionKernel, load_kernels
from bench.gate.sequential import MIN_SCREENING, SequentialTest
from bench.gate.verdict import (
    EXACT_METRICS,
    Difference,
    Verified,
    compare_exactly,
    least_first_call_s,
)
from bench.gate.versions import KERNEL_FILE_DIR, Version
from bench.measure.ratio import PairedRatio
from mlr import Case, Check

# A gradient in float32 whose error is one rounding, and a share of the scale of its products.
GRADIENT = """
import ctypes, time
import numpy as np
import torch
from mlr import Gradient, kernel
@kernel(operation="gradient", flops=lambda m, n, o, s: FLOPS, workspace=lambda m, n, o, s: 0)
def mine(x, delta):
    ACT
    x, delta = x.double(), delta.double()
    weight = x.T @ delta + ERROR * (x.abs().T @ delta.abs())
    return Gradient(weight.float(), delta.sum(0).float())
@kernel(operation="step", flops=lambda m, n, o, s: 1, workspace=lambda m, n, o, s: 0)
def bound(problem):
    time.sleep(BIND_S)
    def step():
        delta = (problem.x @ problem.weight + problem.bias - problem.y)
        delta *= 2 * problem.lr / problem.y.numel()
        problem.weight.sub_(problem.x.T @ delta)
        problem.bias.sub_(delta.sum(0))
    return step
"""
USUAL = {"FLOPS": "2 * m * n * o", "ACT": "pass", "ERROR": "0", "BIND_S": "0"}
CASE = KernelCase("mine", Case("gradient", "cpu", "float32", 40, 5, 4))
STEP = KernelCase("bound", Case("step", "cpu", "float64", 40, 5, 4))
UNIT = 2.0**-24  # roundoff of float32
Kernels = dict[str, dict[str, VersionKernel]]
MALLOC = (
    "libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p; size = 2**25; "
    "place = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size))); "
    "ctypes.memset(place, 1, size); libc.free(place)"
)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    """Forget the loaded versions afterwards."""
    with forgetting_versions():
        yield tmp_path


def loaded(place: Path, **heads: dict[str, str]) -> Kernels:
    """Load versions whose file of a user's differs; the base's is as usual unless it is given."""
    found = {}
    for side, changed in ({BASE: {}} | heads).items():
        text = GRADIENT
        for old, new in (USUAL | changed).items():
            text = text.replace(old, new)
        folder = copy_package(place / side)
        (folder / KERNEL_FILE_DIR).mkdir()
        (folder / KERNEL_FILE_DIR / "mine.py").write_text(text)
        found[side] = load_kernels(folder, f"mlr_test_{side}")
    return found


def verified(one: KernelCase, versions: Kernels) -> list[Verified]:
    """Verify the base, then the head, as their processes do."""
    own = {side: kernels[one.kernel] for side, kernels in versions.items()}
    spec = Spec({}, [one])
    return [Verified(**worker.verify(one, some, spec)) for some in ({BASE: own[BASE]}, own)]


def compared(place: Path, base: dict[str, str], head: dict[str, str]) -> list[list[Difference]]:
    """Return the failures and the changes that a gate finds in a gradient of the two."""
    sides = verified(CASE, loaded(place, base=base, head=head))
    assert all(side.judged_by_base for side in sides)
    return [list(found) for found in compare_exactly(CASE.case, *sides, {})]


def times_unit(roundings: float) -> dict[str, str]:
    return {"ERROR": repr(roundings * UNIT)}


def test_twenty_times_the_error_fails_though_it_is_within_the_tolerance(places: Path) -> None:
    (failure,), _ = compared(places, times_unit(0.5), times_unit(12))
    assert failure.metric == "max_rel_error"
    assert 15 < float(failure.head) / float(failure.base) < 25
    assert failure.text.startswith("error against the oracle: 7.")


def test_a_growth_of_the_error_beyond_twice_is_noted_and_fails_nothing(places: Path) -> None:
    failures, changes = compared(places, times_unit(2), times_unit(6))
    assert failures == []
    assert [one.metric for one in changes] == ["max_rel_error"]


def test_a_first_rounding_of_an_exact_kernel_fails_nothing() -> None:
    sides = [Verified(None, {"max_rel_error": error}) for error in (0.0, 3.9 * UNIT, 4.1 * UNIT)]
    assert compare_exactly(CASE.case, *sides[:2], {})[0] == []
    (failure,), _ = compare_exactly(CASE.case, sides[0], sides[2], {})
    assert failure.metric == "max_rel_error"
    in_float64 = replace(CASE.case, dtype="float64")
    assert compare_exactly(in_float64, *sides[:2], {})[0] != []


@pytest.mark.parametrize(
    ("act", "metric"),
    [("np.ones(4_096)", "python_bytes"), (MALLOC, "untracked_bytes")],
)
def test_a_buffer_that_is_moved_outside_torch_is_no_saving(
    places: Path, act: str, metric: str
) -> None:
    before = {"ACT": "torch.ones(4_096, dtype=torch.float64)"}
    failures, changes = compared(places, before, {"ACT": act})
    assert [one.metric for one in failures] == [metric]
    assert [one.metric for one in changes] == ["peak_bytes"]  # which is smaller now


def test_more_operations_by_the_formula_fail_that_no_counter_sees(places: Path) -> None:
    (failure,), _ = compared(places, {}, {"FLOPS": "3 * m * n * o", "ACT": "x * 2"})
    assert (failure.metric, failure.base, failure.head) == ("declared_flops", 1_600, 2_400)


def test_an_unchanged_head_differs_in_nothing(places: Path) -> None:
    same = times_unit(1) | {"ACT": "np.ones(100_000)"}
    assert compared(places, same, same) == [[], []]


def test_a_head_that_loosens_the_tolerance_is_held_against_the_bases(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkout that the gate runs in is most often the head: its own `mlr` judges nothing."""
    versions = loaded(places, head=times_unit(1_000))
    loose = "    return 1e9 * torch.finfo(DTYPES[case.dtype]).eps / 2\n"
    path = places / HEAD / "mlr" / "oracle.py"
    tight = loose.replace("1e9 * ", "")
    assert tight in path.read_text()
    path.write_text(path.read_text().replace(tight, loose))
    monkeypatch.setattr("mlr.oracle._tolerance", lambda *_: 1.0)
    assert mlr.oracle.tolerance(CASE.case) == 1.0
    base, head = verified(CASE, versions)
    assert base.failure is None
    assert head.failure is not None
    assert head.failure.startswith("wrong: error")


def test_a_base_of_another_make_leaves_the_judging_to_the_checkout_and_that_is_told(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = loaded(places, head={})
    for name in ("check", "check_on_other_inputs"):
        monkeypatch.setattr(mlr, name, lambda *_: Check(0.0, 1.0, None))
    base = versions[BASE]["mine"]
    del base._version.check_on_other_inputs
    assert base.oracle is mlr
    found = verified(CASE, versions)
    assert [one.failure for one in found] == [None, None]
    assert [one.judged_by_base for one in found] == [False, False]


def blocks_of(versions: Kernels, count: int = MIN_SCREENING) -> list[dict[str, Any]]:
    """Measure so many blocks of the step, in this process."""
    own = {side: kernels["bound"] for side, kernels in versions.items()}
    return [
        {STEP.name: worker.compare(STEP, own, Spec({}, [STEP], seed=seed))} for seed in range(count)
    ]


def first_calls(measured: list[dict[str, Any]]) -> list[str]:
    """Return the text of what fails in the first calls of some blocks."""
    seconds = least_first_call_s([block[STEP.name] for block in measured])
    fine = Verified(None, {"peak_bytes": 1})
    return [one.text for one in compare_exactly(STEP.case, fine, fine, seconds)[0]]


def test_a_head_that_is_five_times_slower_to_bind_fails(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same_time = PairedRatio([0.0], 0.0, 1.0, 1.0, 1.0)  # of the calls that follow the first
    monkeypatch.setattr(blocks, "interleave", lambda *_, **__: same_time)
    versions = loaded(places, base={"BIND_S": "0.02"}, head={"BIND_S": "0.1"})
    (said,) = first_calls(blocks_of(versions))
    assert said.startswith("seconds of binding and the first call: 0.1")
    same = versions | {HEAD: versions[BASE]}
    assert first_calls(blocks_of(same)) == []


def simulated(base: list[float], head: list[float]) -> list[dict[str, Any]]:
    return [
        {STEP.name: {"log_ratio": 0.0, "first_call_s": {BASE: old, HEAD: new}}}
        for old, new in zip(base, head, strict=True)
    ]


def test_a_first_call_that_is_slow_in_some_processes_or_by_little_fails_nothing() -> None:
    slow = [0.002, 1.6, 0.5, 1.6, 0.3, 1.6]
    assert first_calls(simulated([0.002] * 6, slow)) == []  # it imported in most what it needs
    assert first_calls(simulated([0.0002] * 6, [0.009] * 6)) == []  # less than a time slice
    assert first_calls(simulated([1.0] * 6, [1.9] * 6)) == []
    assert first_calls(simulated([1.0] * 5, [5.0] * 5)) == []  # too few
    assert first_calls(simulated([1.0] * 6, [2.1] * 6)) != []


def test_versions_bind_first_in_turns_and_the_control_is_a_version_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gate that measures one copy of the base as if it were two could not see what differs."""
    bound: list[str] = []
    paired: list[tuple[str, str]] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def bind(self, problem: object) -> Any:
            bound.append(self.name)
            return lambda: self.name

    def interleave(one: Any, other: Any, **_: object) -> PairedRatio:
        paired.append((one(), other()))
        return PairedRatio([0.0], 0.0, 1.0, 1.0, 1.0)

    monkeypatch.setattr(worker, "LocalTarget", lambda call, device: call)
    monkeypatch.setattr(blocks, "interleave", interleave)
    kernels: Any = {name: Named(name) for name in (BASE, HEAD, CONTROL)}
    found = [
        worker.compare(STEP, kernels, Spec({}, [STEP], seed=seed, control=control))
        for seed, control in ((2, None), (3, None), (4, STEP.name), (5, STEP.name))
    ]
    assert bound == [BASE, HEAD, HEAD, BASE, BASE, HEAD, CONTROL, CONTROL, HEAD, BASE]
    assert paired == [(HEAD, BASE)] * 2 + [(HEAD, BASE), (CONTROL, BASE)] * 2
    assert ["control" in one for one in found] == [False, False, True, True]


def test_base_and_control_are_two_copies_and_blocks_are_odd_and_even_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[Spec] = []

    def verify(spec: Spec, *_: object, **__: object) -> Any:
        *_, name = spec.folders
        assert next(iter(spec.folders)) == BASE  # whose oracle judges
        metrics = {"metrics": {"peak_bytes": 1}}
        return {name: {one.kernel: one.case.operation for one in spec.cases}}, {
            one.name: metrics for one in spec.cases
        }

    def measure(spec: Spec, _: object) -> Any:
        specs.append(spec)
        seconds = dict.fromkeys((BASE, HEAD), 0.1)
        return {one.name: {"log_ratio": 0.0, "first_call_s": seconds} for one in spec.cases}

    monkeypatch.setattr("bench.gate.gate.run_block", verify)
    monkeypatch.setattr("bench.gate.gate.measure_block", measure)
    versions = [Version(name, copy_package(tmp_path / name), None, None) for name in (BASE, HEAD)]
    verdict = gate.run_gate([CASE, STEP], *versions, gate.Options(seed=3), lambda text: None)
    assert verdict.exit_status == 0
    assert [one.timing for one in verdict.cases] == ["no regression"] * 2
    assert [spec.seed % 2 for spec in specs] == [0, 1] * (MIN_SCREENING // 2)
    folders = [Path(specs[0].folders[name]) for name in (BASE, CONTROL)]
    assert folders[0] != folders[1]
    texts = [(folder / "mlr" / "oracle.py").read_text() for folder in folders]
    assert texts[0] == texts[1]


def test_a_bimodal_head_is_not_said_to_be_without_regression() -> None:
    """Slower by half in two of seven processes: its centre stays where it was."""
    test = SequentialTest({"a": Thresholds()})
    count = 0
    while test.open_cases():
        count += 1
        test.add({"a": 0.4 if count % 7 in (2, 5) else 0.001 * (count % 7)})
    case = test.cases["a"]
    assert case.decision == "inconclusive"
    found = case.estimate()
    assert found is not None
    assert found.ratio < 1.05
    assert found.slow == pytest.approx(found.processes * 2 / 7, abs=1)


def test_every_metric_is_declared_with_parts_that_are_known() -> None:
    """The file alone declares one: what it does not say is compared exactly."""
    for name, metric in EXACT_METRICS.items():
        assert name.isidentifier()
        assert metric.words
        assert metric.factor >= metric.noted >= 1
    both = [Verified(None, dict.fromkeys(EXACT_METRICS, value)) for value in (10**9, 10**11)]
    seconds = {BASE: 1.0, HEAD: 9.0}
    failures, _ = compare_exactly(CASE.case, *both, seconds)
    assert {one.metric for one in failures} == set(EXACT_METRICS)
    unchanged = compare_exactly(CASE.case, both[0], both[0], dict.fromkeys(seconds, 1.0))
    assert unchanged == ([], [])
