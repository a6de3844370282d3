"""The harness under attack: every kernel of adversarial_kernels.py is caught, by what it does."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paths import HELPERS

from bench.cli.main import main
from bench.measure.benchmark import kept_reason, measure_sample, verify
from bench.measure.timing import PhaseTimer, repeats_of, time_batch
from bench.plan.benchmark import Benchmark, Outcome, predict
from bench.run import runner
from bench.run.aggregate import summarise
from bench.store.runs import load_frame
from bench.store.schema import Ceilings
from mlr import KERNELS, Case, Kernel, load_kernels

KERNEL_FILE = HELPERS / "adversarial_kernels.py"
SIZES = (64, 5, 4)
CEILINGS = Ceilings(
    dispatch_s=1e-9, bandwidth_bytes_per_s=[[2**30, 1e12]], flops_per_s={"float32": 1e13}
)

# What becomes of each, and a part of the reason, or of the warnings where it is ok.
CAUGHT = {
    "wrong_in_one_element": ("wrong", "against the oracle"),
    "right_for_the_checked_input": ("wrong", "on other inputs"),
    "caches_by_identity": ("wrong", "returns what it returned for the first inputs"),
    "caches_by_version": ("ok", "keeps results for inputs it has seen"),
    "returns_a_view": ("wrong", "its input x"),
    "changes_its_input": ("wrong", "changes its input delta"),
    "writes_equal_values": ("wrong", "writes to its input x"),
    "borrows_its_input": ("wrong", "writes to its input delta"),
    "sleeps_when_timed": ("ok", "idle while timed"),
    "works_in_the_first_call_only": ("wrong", "returns what it returned for the first inputs"),
    "goes_on_in_a_thread": ("ok", "works on after it has returned"),
    "fills_its_result_later": ("wrong", "against the oracle"),
    "returns_float16": ("wrong", "must be float32 on cpu; got torch.float16"),
    "computes_in_float16": ("wrong", "against the oracle"),
    "returns_nan": ("wrong", "holds NaN or infinity"),
    "takes_a_gibibyte": ("ok", "holds 1.00 GiB at peak"),
    "allocates_in_numpy": ("ok", "MiB or more outside torch"),
    "allocates_in_c": ("ok", "MiB or more outside torch"),
    "leaks": ("ok", "leaks 1000 B with every call"),
    "prints": ("ok", "writes to the terminal: 'look at me"),
    "prints_by_python": ("ok", "writes to the terminal: 'look at me"),
    "starts_a_process": ("ok", "starts 1 other process(es)"),
    "raises_on_the_third_call": ("crashed", "RuntimeError: three is enough"),
    "wrong_once_it_is_timed": ("wrong", "on other inputs, after timing"),
    "steps_once": ("wrong", "against the oracle"),
    "has_a_rate_of_its_own": ("wrong", ", 64 rows): error"),
    "puts_another_clock": ("ok", None),
}
ENDS_ITS_PROCESS = {
    "runs_for_ever": ("timeout", "took longer than"),
    "segfaults": ("crashed", "segmentation fault"),
}
# What is seen only while it is timed; the others are as well left untimed here.
TIMED = ("sleeps_when_timed", "wrong_once_it_is_timed", "puts_another_clock")
HONEST = ("autograd", "torch_nn", "matmul", "fused_addmm")
WARNINGS = ("outside torch", "leaks", "terminal", "process(es)", "keeps results", "works on",
            "holds")  # fmt: skip


def timer(call: Callable[[], Any], about_s: float) -> dict[str, Any]:
    seconds = [time_batch(call, repeats_of(about_s), "cpu").seconds for _ in range(5)]
    return {"median_s": statistics.median(seconds), "rounds": len(seconds)}


@pytest.fixture(scope="module")
def adversarial() -> dict[str, Kernel]:
    """The kernels of the file, which no other test is to plan."""
    return {name: KERNELS.pop(name) for name in load_kernels(KERNEL_FILE)}


@pytest.fixture
def _own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put back the clocks that one of them replaces."""
    for name in ("perf_counter", "sleep"):
        monkeypatch.setattr(time, name, getattr(time, name))


def measured(name: str, timed: bool) -> tuple[Outcome, dict[str, Any]]:
    """Verify a kernel and time it in this process; return what became of it and its columns."""
    kernel, sample = KERNELS[name], {}
    benchmark = Benchmark(kernel, Case(kernel.operation, "cpu", "float32", *SIZES))
    outcome = predict(benchmark, CEILINGS, 1.0)
    with kept_reason(outcome):
        verify(benchmark, outcome, CEILINGS, PhaseTimer())
        if timed:
            sample = measure_sample(benchmark, timer, PhaseTimer(), 1)
    return outcome, summarise(outcome.columns(), [sample], None) if sample else {}


@pytest.mark.usefixtures("_own_clock")
@pytest.mark.parametrize("name", CAUGHT)
def test_a_kernel_that_cheats_is_caught(name: str, adversarial: dict[str, Kernel]) -> None:
    KERNELS.update(adversarial)
    status, part = CAUGHT[name]
    outcome, columns = measured(name, timed=name in TIMED)
    assert outcome.status == status, outcome.reason
    said = outcome.reason if status != "ok" else "; ".join((columns or vars(outcome))["warnings"])
    assert part is None or part in (said or ""), said
    if name == "puts_another_clock":  # the clocks are bound before a kernel can put its own
        assert columns["speedup"] > 0
        assert columns["paired_s"] > 1e-7


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_kernel_is_not_accused(name: str) -> None:
    outcome, columns = measured(name, timed=True)
    assert outcome.status == "ok", outcome.reason
    assert outcome.max_rel_error >= 0
    for warning in WARNINGS:
        assert warning not in "; ".join(columns["warnings"])


@pytest.mark.slow
def test_a_run_of_all_of_them_catches_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user has it: those that end or hold up their process too."""
    monkeypatch.setattr(runner, "CASE_TIMEOUT_S", 20.0)
    every = CAUGHT | ENDS_ITS_PROCESS
    names = ",".join([*every, *HONEST])
    arguments = ["--grid=smoke", "--dtype=float32", f"--kernel-file={KERNEL_FILE}", "--processes=2"]
    sizes = ["--batch=64", "--features=5", "--outputs=4", "--device=cpu"]
    out = [f"--out={tmp_path}", f"--kernel={names}"]
    assert main(["run", *arguments, *sizes, *out]) == 1
    (path,) = (tmp_path / "runs").rglob("*.json")
    frame = load_frame([path]).set_index("kernel")
    assert len(frame) == len(every) + len(HONEST)
    for name, (status, part) in every.items():
        row = frame.loc[name]
        assert row["status"] == status, (name, row["reason"])
        said = row["reason"] if status != "ok" else row["warnings"]
        assert part is None or part in (said or ""), (name, said)
        assert (row["median_s"] > 0) == (status == "ok")
    for name in HONEST:
        assert frame.loc[name, "status"] == "ok"
