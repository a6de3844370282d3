"""The harness under attack: every kernel of deceivers.py is caught, and by what it does."""

import pandas as pd
import pytest
from paths import HELPERS

from bench.cli.main import main
from bench.run import runner
from bench.store.runs import load_frame
from mlr import KERNELS

DECEIVERS = HELPERS / "deceivers.py"
SIZES = ["--batch=64", "--features=5", "--outputs=4", "--device=cpu"]

# What becomes of each, and a part of the reason, or of the suspicions where it is ok.
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
    "forks": ("ok", "other process(es)"),
    "forks_in_every_call": ("ok", "other process(es)"),
    "raises_on_the_third_call": ("crashed", "RuntimeError: three is enough"),
    "runs_for_ever": ("timeout", "took longer than"),
    "segfaults": ("crashed", "segmentation fault"),
    "steps_once": ("wrong", "against the oracle"),
    "puts_another_clock": ("ok", None),
}
HONEST = ("autograd", "torch_nn", "matmul", "fused_addmm")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """One run of all of them, beside honest kernels."""
    out = tmp_path_factory.mktemp("attacked")
    before = dict(KERNELS)
    patch = pytest.MonkeyPatch()
    patch.setattr(runner, "LONGEST_CASE_S", 20.0)
    names = ",".join([*CAUGHT, *HONEST])
    arguments = ["--grid=smoke", "--dtype=float32", f"--kernel-file={DECEIVERS}", f"--out={out}"]
    try:
        assert main(["run", *arguments, *SIZES, f"--kernel={names}", "--passes=2"]) == 1
    finally:
        patch.undo()
        KERNELS.clear()
        KERNELS.update(before)
    (path,) = (out / "runs").rglob("*.json")
    return load_frame([path]).set_index("kernel")


@pytest.mark.parametrize("name", CAUGHT)
def test_a_deceiver_is_caught(attacked: pd.DataFrame, name: str) -> None:
    status, part = CAUGHT[name]
    row = attacked.loc[name]
    assert row["status"] == status, row["reason"]
    said = row["reason"] if status != "ok" else row["suspicions"]
    assert part is None or part in (said or ""), said
    assert pd.isna(row["median_s"]) == (status != "ok")


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_kernel_is_not_accused(attacked: pd.DataFrame, name: str) -> None:
    row = attacked.loc[name]
    assert row["status"] == "ok", row["reason"]
    said = row["suspicions"] or ""
    for accusation in ("outside torch", "leaks", "terminal", "process(es)", "keeps results",
                       "works on", "holds"):  # fmt: skip
        assert accusation not in said


def test_another_clock_moves_no_time(attacked: pd.DataFrame) -> None:
    """The clocks are bound before a kernel can put its own."""
    assert attacked.loc["puts_another_clock", "median_s"] > 1e-7
    assert attacked.loc["puts_another_clock", "speedup"] > 0


@pytest.mark.parametrize("name", ["forks", "forks_in_every_call"])
def test_a_fork_measures_nothing_twice(attacked: pd.DataFrame, name: str) -> None:
    assert attacked["fullname"].is_unique
    assert len(attacked) == len(CAUGHT) + len(HONEST)
    assert attacked.loc[name, "passes"] >= 2  # more where a pass was taken again
