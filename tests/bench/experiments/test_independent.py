"""What is measured without the suite's timing code: how it is chosen, measured and judged."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_builder import build_run

from bench.cli.main import main
from bench.common.errors import UserError
from bench.experiments import independent
from bench.machine.info import machine_slug
from mlr import Kernel, Problem


def row(kernel: str, median_s: float, **more: Any) -> dict[str, Any]:
    usual = {"operation": "gradient", "baseline": "autograd", "role": "kernel", "device": "cpu"}
    usual["threads"] = 1
    sizes = {"dtype": "float64", "batch": 1000, "in_features": 16, "out_features": 2}
    numbers = {"median_s": median_s, "speedup": 2.0, "speedup_cold": 1.5}
    return {"kernel": kernel} | usual | sizes | numbers | more


def test_results_are_chosen_evenly_over_their_times_and_only_what_can_be_compared() -> None:
    rows = [row("matmul", 1e-6 * number) for number in range(1, 101)]
    others = [
        row("autograd", 5e-5),
        row("mine", 5e-5),
        row("auto", 5e-5, role="auto"),
        row("matmul", 5e-5, device="cuda"),
        row("matmul", 5e-5, threads=2),
        row("TorchLinearRegression", 5e-5, operation="fit"),
        row("matmul", 5.0),
        row("matmul", 5e-5, speedup=np.nan),
    ]
    chosen = independent.choose(pd.DataFrame([*others, *rows]).sample(frac=1, random_state=0))
    wanted = np.linspace(1e-6, 1e-4, independent.CASES)
    assert np.allclose(chosen["median_s"], wanted, atol=6e-7)
    assert list(chosen["hot"]) == [2.0] * independent.CASES
    few = independent.choose(pd.DataFrame(rows[:3]))
    assert list(few["median_s"]) == [1e-6, 2e-6, 3e-6]
    assert independent.choose(pd.DataFrame(others)).empty


def test_cold_calls_go_round_through_inputs_that_lie_apart_and_exceed_the_caches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The copies of a round are of other tensors each, the same for the baseline and the kernel."""
    case_bytes = 1000 * (16 + 2) * 8
    monkeypatch.setattr(independent, "BEYOND_CACHES", 3 * case_bytes + 1)
    bound: dict[str, list[Problem]] = {}  # kept, so that no memory is used again
    bind = Kernel.bind

    def spy(kernel: Kernel, problem: Problem) -> Any:
        bound.setdefault(kernel.name, []).append(problem)
        return bind(kernel, problem)

    monkeypatch.setattr(Kernel, "bind", spy)
    monkeypatch.setattr(independent, "timer_s", lambda calls: float(len(calls)))
    rounds = []

    def loop_s(calls: Any) -> float:
        rounds.append(len({id(call) for call in calls}))
        return 1e-3

    monkeypatch.setattr(independent, "loop_s", loop_s)
    frame = pd.DataFrame([row("matmul", 1e-4), row("einsum", 1e-4, speedup_cold=np.nan)])
    found = independent.measure(frame.rename(columns={"speedup": "hot", "speedup_cold": "cold"}))
    assert list(found["name"]) == [
        "matmul-cpu-float64-1000x16x2",
        "matmul-cpu-float64-1000x16x2",
        "einsum-cpu-float64-1000x16x2",  # whose stored run has no speedup with cold inputs
    ]
    assert list(found["inputs"]) == ["hot", "cold", "hot"]
    assert list(found["stored"]) == [2.0, 1.5, 2.0]
    assert set(rounds) == {1, 4}
    inputs = {name: {one.x.data_ptr() for one in problems} for name, problems in bound.items()}
    assert len(inputs["matmul"]) == 5
    assert inputs["matmul"] < inputs["autograd"]


def test_inputs_too_small_to_exceed_the_caches_are_not_measured_cold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(independent, "MOST_COPIES", 1)
    monkeypatch.setattr(independent, "ROUND_S", 1e-5)
    frame = pd.DataFrame([row("matmul", 1e-4)])
    found = independent.measure(frame.rename(columns={"speedup": "hot", "speedup_cold": "cold"}))
    assert list(found["inputs"]) == ["hot"]
    assert found[["timer", "loop"]].gt(0).all(axis=None)


@pytest.mark.parametrize(("way", "calls_made"), [("timer_s", 3), ("loop_s", 2)])
def test_a_way_counts_the_calls_of_one_round(way: str, calls_made: int) -> None:
    made = []
    calls = [lambda: made.append(0)] * 10
    assert 0 < getattr(independent, way)(calls) < 1
    assert len(made) == 10 * calls_made


def table(timer: list[float], loop: list[float]) -> pd.DataFrame:
    numbers = {"stored": 2.0, "timer": timer, "loop": loop}
    return pd.DataFrame({"name": ["a", "b"], "inputs": "hot", **numbers})


@pytest.mark.parametrize(
    ("speedups", "kept"),
    [
        ([2.0, 2.0], True),
        ([2.0, 2.19], True),
        ([2.0, 2.21], False),  # one case by more than a tenth
        ([2.0, 1.81], False),  # the other way as well
        ([2.12, 2.12], False),  # all by more than a twentieth
        ([2.19, 1.83], True),
    ],
)
def test_speedups_agree_within_a_twentieth_in_the_mean_and_a_tenth_each(
    speedups: list[float], kept: bool
) -> None:
    found = independent.agreement(table([2.0, 2.0], speedups)).set_index("way")
    assert found.loc["timer", "kept"]
    assert found.loc["loop", "kept"] == kept
    assert list(found["cases"]) == [2, 2]


def test_a_run_of_another_machine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(build_run(["gradient"], slug="another")))
    with pytest.raises(UserError, match=f"must be of {machine_slug()}") as error:
        independent.compare(path)
    assert "\n" not in str(error.value)


def test_processes_have_the_threads_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build_run(["gradient"])
    run["machine"]["slug"], run["settings"]["threads"] = machine_slug(), 3
    (tmp_path / "run.json").write_text(json.dumps(run))

    def no_pool(*_: Any, **__: Any) -> None:
        raise InterruptedError

    monkeypatch.setattr(independent, "get_context", lambda _: SimpleNamespace(Pool=no_pool))
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "1"})
    with pytest.raises(InterruptedError):
        independent.compare(tmp_path / "run.json")
    assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "3"


@pytest.mark.parametrize(("timer", "status"), [(2.0, 0), (3.0, 1)])
def test_what_does_not_agree_ends_with_status_1_and_both_are_written(
    timer: float, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(independent, "compare", lambda path: table([2.0, timer], [2.0, 2.0]))
    assert main(["experiment", "independent", "a_run.json", "--out", str(tmp_path)]) == status
    (path,) = (tmp_path / "independent").iterdir()
    assert path.name == f"{machine_slug()}.md"
    text = path.read_text()
    assert "Speedups of run a_run beside" in text
    assert text.count("does not agree") == status
    assert "| a" in text


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "independent", str(tmp_path / "no.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
