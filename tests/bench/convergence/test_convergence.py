"""Convergence: every trainer reaches the target and begins anew; what is stored and shown."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from few_trainers import FEW
from forks import fork_workers

from bench.cli.main import main
from bench.common.errors import UserError
from bench.convergence import run as convergence
from bench.convergence import worker
from bench.convergence.records import ConvergenceRun, TaskInfo
from bench.convergence.run import measure_convergence, merge_processes
from bench.convergence.section import (
    COLUMNS,
    convergence_figure,
    convergence_section,
    convergence_table,
)
from bench.machine.devices import Call
from mlr import Problem

SMALL = TaskInfo(rows=450, features=5, outputs=2, dtype="float64", lr=0.1, batch_size=40)


def bind(name: str, problem: Problem) -> Call:
    """One iteration of a trainer, from the parameters at the start on."""
    iterate = worker.TRAINERS[name].bind(problem, SMALL.batch_size)
    problem.reset()
    return iterate


@pytest.mark.parametrize("name", [name for name in worker.TRAINERS if name != "torch_compile"])
def test_every_trainer_comes_as_near_as_the_closed_form_and_again(name: str) -> None:
    data = worker.make_data(SMALL)
    best, problem = worker.make_problem(data, SMALL.lr), worker.make_problem(data, SMALL.lr)
    best.weight, best.bias = worker.closed_form(data)
    target = 1.01 * worker.validation_loss(best)
    try:
        iterate = bind(name, problem)
    except NotImplementedError as error:
        pytest.skip(str(error))
    losses = worker.train_to_target(iterate, problem, target)
    assert losses[0] > 100 * target
    assert losses[-1] <= target < losses[-2]
    weight, bias = problem.parameters()
    torch.testing.assert_close(weight, best.weight, rtol=0.05, atol=0.5)
    torch.testing.assert_close(bias, best.bias, rtol=0.05, atol=0.5)
    problem.reset()
    again = worker.train_to_target(iterate, problem, target)
    assert again == pytest.approx(losses, rel=1e-9)


def test_the_closed_form_is_that_of_the_normal_equations() -> None:
    data = worker.make_data(SMALL)
    x = torch.cat([data.x_train, torch.ones(len(data.x_train), 1, dtype=torch.float64)], 1)
    expected = torch.linalg.solve(x.T @ x, x.T @ data.y_train)
    weight, bias = worker.closed_form(data)
    torch.testing.assert_close(torch.cat([weight, bias[None]]), expected)


def test_a_training_that_does_not_get_there_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = worker.make_problem(worker.make_data(SMALL), SMALL.lr)
    monkeypatch.setattr(worker, "MAX_ITERATIONS", 7)
    for name, losses in (("LinearRegression", 8), ("sklearn LinearRegression", 3)):
        assert len(worker.train_to_target(bind(name, problem), problem, 0.0)) == losses
    wild = worker.make_problem(problem.dataset, 1e200)
    found = worker.train_to_target(bind("auto_step", wild), wild, 0.0)
    assert not math.isfinite(found[-1])
    assert len(found) < 8


def test_a_process_accounts_for_every_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are fine, though one not when timed; then: not supported, crashed, never there."""
    fine = worker.TRAINERS["sklearn LinearRegression"]

    def fail(error: Exception) -> Any:
        raise error

    def bind_worse(problem: Problem, batch_size: int) -> Call:
        iterate, calls = fine.bind(problem, batch_size), iter(range(10))
        return lambda: iterate() if next(calls) < 2 else problem.reset()

    trainers = {
        "fine": fine,
        "worse": worker.Trainer("all of it", bind_worse),
        "unsupported": worker.Trainer("a step", lambda *_: fail(NotImplementedError("not here"))),
        "crashed": worker.Trainer("a step", lambda *_: fail(RuntimeError("no\nway"))),
        "late": worker.TRAINERS["LinearRegression"],
    }
    monkeypatch.setattr(worker, "TRAINERS", trainers)
    monkeypatch.setattr(worker, "MAX_ITERATIONS", 1)
    *events, found = worker.measure(SMALL, 0)
    assert len(events) == len(trainers) + 2 * SMALL.repeats
    assert found["target"] == pytest.approx(1.01 * found["closed_form_loss"])
    accounts = {account["trainer"]: account for account in found["results"]}
    said = {name: (one["status"], str(one.get("reason"))) for name, one in accounts.items()}
    for name, status, reason in (
        ("fine", "ok", "None"), ("worse", "not reached", "when timed, it ended at a loss of "),
        ("unsupported", "unsupported", "not here"), ("crashed", "crashed", "RuntimeError: no way"),
        ("late", "not reached", "its loss was "),
    ):  # fmt: skip
        assert said[name][0] == status
        assert said[name][1].startswith(reason)
    assert said["late"][1].endswith("after 1 iterations")
    (fine_s,) = accounts["fine"]["seconds"]
    assert fine_s > 0


def account(**changed: Any) -> dict[str, Any]:
    return {"trainer": "a", "iteration": "a step", "status": "ok", "losses": [9.0, 1.0]} | changed


def test_a_trainer_has_the_seconds_of_every_process_or_none() -> None:
    first = account(seconds=[2.0])
    assert merge_processes([first, account(seconds=[5.0])]).seconds == [2.0, 5.0]
    found = merge_processes([first, account(status="crashed", reason="RuntimeError: no")])
    assert (found.status, found.reason, found.seconds) == ("crashed", "RuntimeError: no", [])


def stored(**changed: Any) -> dict[str, Any]:
    task = {"rows": 100, "features": 6, "outputs": 3, "dtype": "float64", "lr": 0.1}
    task |= {"batch_size": 10, "tolerance": 0.01, "repeats": 3, "seed": 0}
    base = {"iteration": "a step", "status": "ok", "losses": [50.0, 4.0, 1.0]}
    return {
        "schema": 2, "datetime": "2026-11-23T20:00:00+00:00", "machine": "here",
        "commit_info": {"id": "0123456789abcdef", "dirty": False},
        "settings": {"threads": 1}, "packages": {}, "task": task,
        "closed_form_loss": 1.0, "target": 1.01,
        "results": [
            base | {"trainer": "TorchLinearRegression", "seconds": [4.0, 6.0, 5.0]},
            base | {"trainer": "fast", "seconds": [2.0, 2.0, 1.0]},
            base | {"trainer": "lost", "status": "unsupported", "reason": "no", "losses": []},
        ],
    } | changed  # fmt: skip


def run_of(**changed: Any) -> ConvergenceRun:
    return ConvergenceRun.model_validate(stored(**changed))


def test_speedups_are_taken_within_each_process() -> None:
    table = convergence_table(run_of())
    cells = {column.heading: column.write(table) for column in COLUMNS}
    assert cells["trainer"] == ["fast", "TorchLinearRegression", "lost"]
    assert cells["speedup vs. torch.nn (range)"] == ["3.00× (2.00–5.00)", "baseline", "–"]
    assert cells["iterations"] == ["2", "2", "–"]
    assert cells["status"] == ["ok", "ok", "unsupported: no"]


def test_a_task_of_its_own_is_shown_of_its_own(tmp_path: Path) -> None:
    task = stored()["task"]
    runs = [run_of(), run_of(machine="x"), run_of(task=task | {"lr": 0.2})]
    older = run_of(datetime="2026-11-22T00:00:00+00:00", closed_form_loss=2.0)
    for number, run in enumerate((*runs, older)):
        run.store(tmp_path / str(number))
    assert ConvergenceRun.latest(tmp_path) == [runs[0], runs[2], runs[1]]
    assert len({one.name for one in runs}) == 3


@pytest.mark.parametrize("changed", [{"schema": 1}, {"target": math.nan}, {"results": 3}])
def test_a_file_that_holds_none_is_one_line(changed: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(stored(**changed)))
    with pytest.raises(UserError, match="a convergence run must") as error:
        ConvergenceRun.latest(tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_shown_is_escaped_and_drawn(tmp_path: Path) -> None:
    results = stored()["results"]
    results[1]["trainer"] = "<script>$x$|"
    found = run_of(results=results)
    text = convergence_section(found, "figures/a.png")
    assert "<script>" not in text
    assert "within 1%" in text
    assert "3 processes on the CPU, 1 thread each." in text
    figure = convergence_figure(found)
    figure.savefig(tmp_path / "a.png")
    drawn = [line for line in figure.axes[0].lines if line.get_label()[0] != "_"]
    assert len(drawn) == 2  # the one without a time is not drawn
    assert np.asarray(drawn[0].get_xdata()).tolist() in ([1.0, 2.0], [2.5, 5.0])


def measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> ConvergenceRun:
    """Run the command; hold what it stores and says against each other."""
    assert main(["convergence", "--rows", "300", "--processes", "1", "--out", str(tmp_path)]) == 0
    (found,) = ConvergenceRun.latest(tmp_path)
    assert {one.trainer for one in found.results if one.status == "ok"} >= set(FEW)
    for one in found.results:
        if one.status == "ok":
            assert one.losses[-1] <= found.target < one.losses[-2]
            assert len(one.seconds) == 1
    *table, path = capsys.readouterr().out.splitlines()
    assert [path] == [str(path) for path in tmp_path.rglob("*.json")]
    assert max(map(len, table[:5])) <= 80
    assert any("TorchLinearRegression" in line and "baseline" in line for line in table)
    return found


def test_the_command_measures_in_processes_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convergence, "WORKER", (sys.executable, "-m", "few_trainers"))
    fork_workers(monkeypatch)
    assert {one.trainer for one in measured(tmp_path, capsys).results} == set(FEW)


@pytest.mark.slow
def test_the_command_measures_every_trainer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {one.trainer for one in measured(tmp_path, capsys).results} == set(worker.TRAINERS)


@pytest.mark.parametrize(
    "argv", [["--rows", "0"], ["--lr", "-1"], ["--lr", "nan"], ["--dtype", "int8"]]
)
def test_a_mistake_is_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["convergence", *argv])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import time; time.sleep(60)", r"took longer than 0\.2 s; killed; give fewer rows"),
        ("raise SystemExit('no data')", r"ended \(exit status 1\): no data"),
    ],
)
def test_a_process_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    monkeypatch.setattr(convergence, "WORKER", (sys.executable, "-c", program))
    monkeypatch.setattr(convergence, "EVENT_TIMEOUT_S", 0.2 if "sleep" in program else 60.0)
    with pytest.raises(UserError, match=said) as error:
        measure_convergence(SMALL, 1, tmp_path, lambda _: None)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*"))
