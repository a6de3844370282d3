"""Convergence: every trainer reaches the target and begins anew; what is stored and shown."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.cli.main import main
from bench.common.errors import UserError
from bench.convergence import run as convergence
from bench.convergence import worker
from bench.convergence.records import ConvergenceRun, TaskInfo, latest_convergence_runs
from bench.convergence.run import measure_convergence, merge_processes
from bench.convergence.section import (
    COLUMNS,
    convergence_figure,
    convergence_section,
    convergence_table,
    subject,
)
from bench.convergence.trainers import TRAINERS, closed_form, validation_loss
from bench.convergence.worker import make_task, train_to_target

SMALL = TaskInfo(rows=450, features=5, outputs=2, dtype="float64", lr=0.1, batch_size=40)
FEW = ("TorchLinearRegression", "auto_step", "sklearn LinearRegression")
# The worker with few trainers: what compiles takes longer than all else together.
FEW_TRAINERS = f"""
import sys
from bench.convergence import trainers, worker
for name in set(trainers.TRAINERS) - set({FEW!r}):
    del trainers.TRAINERS[name]
worker.main(*sys.argv[1:])
"""


@pytest.mark.parametrize("name", [name for name in TRAINERS if name != "torch_compile"])
def test_every_trainer_comes_as_near_as_the_closed_form_and_again(name: str) -> None:
    task, trainer = make_task(SMALL), TRAINERS[name]
    if reason := trainer.unsupported(task):
        pytest.skip(reason)
    best = closed_form(task.data)
    target = 1.01 * validation_loss(task.data, best)
    training = trainer.start(task)
    losses = train_to_target(trainer, training, task, target)
    assert losses[0] > 100 * target
    assert losses[-1] <= target < losses[-2]
    weight, bias = training.parameters()
    torch.testing.assert_close(weight, best.weight, rtol=0.05, atol=0.5)
    torch.testing.assert_close(bias, best.bias, rtol=0.05, atol=0.5)
    training.restart()
    again = train_to_target(trainer, training, task, target)
    assert again == pytest.approx(losses, rel=1e-9)


def test_the_closed_form_is_that_of_the_normal_equations() -> None:
    data = make_task(SMALL).data
    x = torch.cat([data.x_train, torch.ones(len(data.x_train), 1, dtype=torch.float64)], 1)
    expected = torch.linalg.solve(x.T @ x, x.T @ data.y_train)
    weight, bias = closed_form(data)
    torch.testing.assert_close(torch.cat([weight, bias[None]]), expected)


def test_a_training_that_does_not_get_there_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(SMALL)
    monkeypatch.setattr(worker, "MAX_ITERATIONS", 7)
    trainer = TRAINERS["LinearRegression"]
    assert len(train_to_target(trainer, trainer.start(task), task, 0.0)) == 8
    trainer = TRAINERS["sklearn LinearRegression"]
    assert len(train_to_target(trainer, trainer.start(task), task, 0.0)) == 2
    wild = task._replace(info=SMALL.model_copy(update={"lr": 1e200}))
    trainer = TRAINERS["auto_step"]
    losses = train_to_target(trainer, trainer.start(wild), wild, 0.0)
    assert not math.isfinite(losses[-1])
    assert len(losses) < 8


def test_a_process_accounts_for_every_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is fine, one that is not supported, one that fails and one that never arrives."""

    def crash(task: object) -> Any:
        raise RuntimeError("no\nway")

    fine = TRAINERS["sklearn LinearRegression"]
    trainers = {
        "fine": fine,
        "unsupported": fine._replace(unsupported=lambda task: "not here"),
        "crashed": fine._replace(start=crash),
        "late": TRAINERS["LinearRegression"],
    }
    monkeypatch.setattr(worker, "TRAINERS", trainers)
    monkeypatch.setattr(worker, "MAX_ITERATIONS", 1)
    head, *events = worker.measure(SMALL, 0)
    assert head["target"] == pytest.approx(1.01 * head["closed_form_loss"])
    accounts = {event["trainer"]: event for event in events[:4]}
    found = {name: (event["status"], event.get("reason")) for name, event in accounts.items()}
    late = accounts["late"]["reason"]
    assert found == {
        "fine": ("ok", None), "unsupported": ("unsupported", "not here"),
        "crashed": ("crashed", "RuntimeError: no way"), "late": ("not reached", late),
    }  # fmt: skip
    assert late.endswith("after 1 iterations")
    assert [event["timed"] for event in events[4:]] == ["fine"] * SMALL.repeats
    assert all(event["loss"] <= head["target"] and event["seconds"] > 0 for event in events[4:])


def lines(seconds: list[float], loss: float = 1.0, **account: Any) -> list[Any]:
    said = {"trainer": "a", "iteration": "a step", "status": "ok", "losses": [9.0, 1.0]}
    timed = [{"timed": "a", "seconds": second, "loss": loss} for second in seconds]
    return [said | account, *timed]


def test_processes_are_merged_by_their_medians() -> None:
    found = merge_processes("a", 1.0, [lines([3.0, 1.0, 2.0]), lines([5.0])])
    assert found.seconds == [2.0, 5.0]


@pytest.mark.parametrize(
    ("second", "status"),
    [
        (lines([1.0], loss=1.1), "not reached"),
        (lines([1.0], loss=math.nan), "not reached"),
        (lines([], status="crashed", reason="RuntimeError: no"), "crashed"),
    ],
)
def test_what_fails_in_one_process_carries_no_time(second: list[Any], status: str) -> None:
    found = merge_processes("a", 1.0, [lines([1.0]), second])
    assert found.status == status
    assert found.reason
    assert not found.seconds


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
    readme = subject([run_of()]).readme["fit"]
    assert "fast" in readme
    assert "lost" not in readme  # which has no time


def test_the_newest_of_each_machine_and_task_is_shown(tmp_path: Path) -> None:
    for number, changed in enumerate(
        ({}, {"datetime": "2026-11-24T00:00:00+00:00", "closed_form_loss": 2.0}, {"machine": "x"})
    ):
        text = json.dumps(run_of(**changed).model_dump(by_alias=True))
        (tmp_path / f"{number}.json").write_text(text)
    found = latest_convergence_runs(tmp_path)
    assert [(one.machine, one.closed_form_loss) for one in found] == [("here", 2.0), ("x", 1.0)]
    assert found[1] == run_of(machine="x")
    assert len({one.name for one in found}) == 2


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 2}', json.dumps(stored(schema=1)),
             json.dumps(stored(machine="../../up")), json.dumps(stored(target=math.nan)),
             json.dumps(stored(closed_form_loss=-1.0)), json.dumps(stored(results=3))],
)  # fmt: skip
def test_a_file_that_holds_none_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match="a convergence run must") as error:
        latest_convergence_runs(tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_shown_is_escaped_and_drawn(tmp_path: Path) -> None:
    results = stored()["results"]
    results[1]["trainer"] = "<script>$x$|"
    found = run_of(results=results)
    text = convergence_section(found, "figures/a.png")
    assert "<script>" not in text
    assert "within 1%" in text
    figure = convergence_figure(found)
    figure.savefig(tmp_path / "a.png")
    drawn = [line for line in figure.axes[0].lines if line.get_label()[0] != "_"]
    assert len(drawn) == 2  # the one without a time is not drawn
    assert np.asarray(drawn[0].get_xdata()).tolist() in ([1.0, 2.0], [2.5, 5.0])


def measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> ConvergenceRun:
    """Run the command; hold what it stores and says against each other."""
    assert main(["convergence", "--rows", "300", "--processes", "1", "--out", str(tmp_path)]) == 0
    (found,) = latest_convergence_runs(tmp_path)
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
    monkeypatch.setattr(convergence, "WORKER", (sys.executable, "-c", FEW_TRAINERS))
    assert {one.trainer for one in measured(tmp_path, capsys).results} == set(FEW)


@pytest.mark.slow
def test_the_command_measures_every_trainer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {one.trainer for one in measured(tmp_path, capsys).results} == set(TRAINERS)


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
