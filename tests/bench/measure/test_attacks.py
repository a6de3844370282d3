"""The harness under attack: every kernel of adversarial_kernels.py is caught, by what it does."""

import statistics
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

# What becomes of each, and a part of the reason, or of the warnings where it is ok. A kernel that
# stops working while it is timed may be found by its time, if the machine is slow, or its result.
STOPS = ("wrong", ("on inputs that changed after timing", "faster while it is timed"))
CAUGHT: dict[str, tuple[str, str | tuple[str, ...] | None]] = {
    "wrong_in_one_element": ("wrong", "against the oracle"),
    "right_for_the_checked_input": ("wrong", "on other inputs"),
    "caches_by_identity": ("wrong", "on other inputs"),
    "keeps_by_version": ("wrong", "on other inputs"),
    "keeps_by_version_after_50_calls": STOPS,
    "keeps_by_version_after_2000_calls": STOPS,
    "keeps_by_content": ("wrong", "keeps results"),
    "keeps_by_content_after_50_calls": ("wrong", "keeps results"),
    "keeps_by_a_few_numbers": STOPS,
    "keeps_by_shape": STOPS,
    "keeps_in_a_timed_loop": ("wrong", "on other inputs"),
    "works_where_it_is_checked": ("wrong", "on inputs that changed after timing"),
    "takes_what_memory_holds": ("wrong", None),
    "hands_out_the_wrong_memory": STOPS,
    "returns_lazy_tensors": ("wrong", "must be a plain tensor; got LazyTensor"),
    "returns_a_lazy_tuple": ("wrong", "against the oracle"),
    "gives_its_result_another_method": ("wrong", "against the oracle"),
    "returns_before_its_thread_is_done": ("wrong", "against the oracle"),
    "copies_the_expected_result": ("wrong", None),
    "computes_at_bind_time": ("wrong", "against the oracle"),
    "keeps_by_seed": ("wrong", "against the oracle"),
    "stops_until_it_is_reset": STOPS,
    "puts_isfinite": ("wrong", "replaces torch.isfinite"),
    "puts_torch_equal": ("wrong", "replaces torch.equal"),
    "puts_tensor_equal": ("wrong", "replaces torch.Tensor.equal"),
    "puts_tensor_max": ("wrong", "replaces torch.Tensor.max"),
    "puts_a_check": ("wrong", "replaces mlr.oracle._compare"),
    "hides_a_builtin": ("wrong", "replaces mlr.oracle.max"),
    "puts_an_oracle": ("wrong", "replaces mlr.declaration.OPERATIONS['gradient'].oracle"),
    "puts_a_baseline": ("wrong", "].function"),
    "puts_code": ("wrong", "replaces bench.measure.timing.repeats_of"),
    "returns_a_view": ("wrong", "its input x"),
    "changes_its_input": ("wrong", "changes its input delta"),
    "writes_equal_values": ("wrong", "writes to its input x"),
    "borrows_its_input": ("wrong", "writes to its input delta"),
    "sleeps_when_timed": ("ok", "idle while timed"),
    "works_in_the_first_call_only": ("wrong", "on other inputs"),
    "goes_on_in_a_thread": ("wrong", "works on after it has returned"),
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
    "wrong_once_it_is_timed": ("wrong", "after timing"),
    "steps_once": ("wrong", "against the oracle"),
    "has_a_rate_of_its_own": ("wrong", ", batch 64): error"),
    "puts_another_clock": ("wrong", "replaces time."),
}
# By pytest-benchmark's own loop alone, which a whole run has.
OF_THE_ENGINE = {
    "keeps_in_the_engines_loop": ("wrong", "times faster while it is timed than by itself"),
    "slows_the_engines_clock": ("wrong", "times faster while it is timed than by itself"),
}
ENDS_ITS_PROCESS = {
    "runs_for_ever": ("timeout", "took longer than"),
    "segfaults": ("crashed", "segmentation fault"),
}
# What is seen only while it is timed; the others are as well left untimed here.
TIMED = {
    *("sleeps_when_timed", "wrong_once_it_is_timed", "hands_out_the_wrong_memory"),
    *("stops_until_it_is_reset"),
    *(name for name in CAUGHT if name.startswith("keeps_")),
}
HONEST = ("autograd", "torch_nn", "matmul", "fused_addmm")
ALWAYS = ("one_pass", "one_pass_step", "auto", "LinearRegression")  # the others are slow to try
WARNINGS = ("outside torch", "leaks", "terminal", "process(es)", "keeps results", "works on",
            "holds")  # fmt: skip


def timer(call: Callable[[], Any], about_s: float) -> dict[str, Any]:
    """Time as many calls, however slow the machine is, as let every kernel begin to cheat."""
    calls = max(500 if about_s < 0.001 else 1, repeats_of(about_s))
    seconds = [time_batch(call, calls, "cpu").seconds for _ in range(5)]
    return {"median_s": statistics.median(seconds), "rounds": len(seconds)}


@pytest.fixture(scope="module")
def adversarial() -> dict[str, Kernel]:
    """The kernels of the file, which no other test is to plan."""
    return {name: KERNELS.pop(name) for name in load_kernels(KERNEL_FILE)}


def is_said(part: str | tuple[str, ...] | None, said: str | None) -> bool:
    """Say whether a reason or warnings hold a text, or one of several."""
    parts = (part,) if isinstance(part, str) else part or ("",)
    return any(one in (said or "") for one in parts)


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


@pytest.mark.parametrize("name", CAUGHT)
def test_a_kernel_that_cheats_is_caught(name: str, adversarial: dict[str, Kernel]) -> None:
    KERNELS.update(adversarial)
    status, part = CAUGHT[name]
    outcome, columns = measured(name, timed=name in TIMED)
    assert outcome.status == status, outcome.reason
    said = outcome.reason if status != "ok" else "; ".join((columns or vars(outcome))["warnings"])
    assert is_said(part, said), said


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_kernel_is_not_accused(name: str) -> None:
    outcome, columns = measured(name, timed=True)
    assert outcome.status == "ok", outcome.reason
    assert outcome.max_rel_error >= 0
    for warning in WARNINGS:
        assert warning not in "; ".join(columns["warnings"])


OURS = [
    pytest.param(one.name, marks=[] if one.name in ALWAYS else [pytest.mark.slow])
    for one in KERNELS.values()
    if one.built_in and "cpu" in one.devices
]


@pytest.mark.parametrize("name", OURS)
def test_every_kernel_that_comes_with_it_does_its_work(name: str) -> None:
    """With what each of them replaces, starts and keeps on its first use."""
    case = Case(KERNELS[name].operation, "cpu", "float64", 40, 5, 4)
    if (reason := KERNELS[name].unsupported(case)) is not None:
        pytest.skip(reason)
    outcome, _ = measured(name, timed=True)
    assert outcome.status == "ok", outcome.reason


@pytest.mark.slow
def test_a_run_of_all_of_them_catches_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user has it: those that end or hold up their process too."""
    monkeypatch.setattr(runner, "CASE_TIMEOUT_S", 45.0)
    every = CAUGHT | OF_THE_ENGINE | ENDS_ITS_PROCESS
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
        assert is_said(part, said), (name, said)
        assert (row["median_s"] > 0) == (status == "ok")
    for name in HONEST:
        assert frame.loc[name, "status"] == "ok"
