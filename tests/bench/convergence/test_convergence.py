"""Fit curves: every way of training gets there and begins anew; what is stored, read and shown."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.cli.main import main
from bench.common.errors import UserError
from bench.convergence import run as curves
from bench.convergence import worker as curving
from bench.convergence.records import (
    Curves,
    curves_figure,
    curves_section,
    curves_table,
    latest_curves,
    names,
)
from bench.convergence.trainers import TRAINERS, closed_form, validation_loss
from bench.convergence.worker import Wanted, until

SMALL = Wanted(rows=450, features=5, outputs=2, dtype="float64", lr=0.1, batch_size=40)


@pytest.mark.parametrize("name", [name for name in TRAINERS if name != "torch_compile"])
def test_every_trainer_comes_as_near_as_the_closed_form_and_again(name: str) -> None:
    task, trainer = SMALL.task(), TRAINERS[name]
    if reason := trainer.unsupported(task):
        pytest.skip(reason)
    best = closed_form(task.data)
    target = 1.01 * validation_loss(task.data, best)
    training = trainer.start(task)
    losses = until(trainer, training, task, target)
    assert losses[0] > 100 * target
    assert losses[-1] <= target < losses[-2]
    weight, bias = training.parameters()
    torch.testing.assert_close(weight, best.weight, rtol=0.05, atol=0.5)
    torch.testing.assert_close(bias, best.bias, rtol=0.05, atol=0.5)
    training.restart()
    assert until(trainer, training, task, target) == pytest.approx(losses, rel=1e-9)


def test_the_closed_form_is_that_of_the_normal_equations() -> None:
    data = SMALL.task().data
    x = torch.cat([data.x_train, torch.ones(len(data.x_train), 1, dtype=torch.float64)], 1)
    expected = torch.linalg.solve(x.T @ x, x.T @ data.y_train)
    weight, bias = closed_form(data)
    torch.testing.assert_close(torch.cat([weight, bias[None]]), expected)


def test_a_training_that_does_not_get_there_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    task = SMALL.task()
    monkeypatch.setattr(curving, "MOST_LEGS", 7)
    trainer = TRAINERS["LinearRegression"]
    assert len(until(trainer, trainer.start(task), task, 0.0)) == 8
    trainer = TRAINERS["sklearn LinearRegression"]
    assert len(until(trainer, trainer.start(task), task, 0.0)) == 2
    wild = task._replace(lr=1e200)
    trainer = TRAINERS["auto_step"]
    losses = until(trainer, trainer.start(wild), wild, 0.0)
    assert not math.isfinite(losses[-1])
    assert len(losses) < 8


def lines(name: str, seconds: list[float], loss: float = 1.0, **account: Any) -> list[Any]:
    said = {"trainer": name, "leg": "a step", "status": "ok", "reason": None, "losses": [9.0, 1.0]}
    timed = [{"timed": name, "seconds": second, "loss": loss} for second in seconds]
    return [said | account, *timed]


def test_passes_are_joined_by_their_medians() -> None:
    told = [[{"target": 1.0}, *lines("a", [3.0, 1.0, 2.0])], [{"target": 1.0}, *lines("a", [5.0])]]
    assert curves._joined("a", told)["seconds"] == [2.0, 5.0]


@pytest.mark.parametrize(
    ("second", "status"),
    [
        (lines("a", [1.0], loss=1.1), "not reached"),
        (lines("a", [1.0], loss=math.nan), "not reached"),
        (lines("a", [], status="crashed", reason="RuntimeError: no"), "crashed"),
    ],
)
def test_what_fails_in_one_pass_carries_no_time(second: list[Any], status: str) -> None:
    told = [[{"target": 1.0}, *lines("a", [1.0])], [{"target": 1.0}, *second]]
    found = curves._joined("a", told)
    assert found["status"] == status
    assert found["reason"]
    assert "seconds" not in found


def stored(**changed: Any) -> dict[str, Any]:
    task = {"rows": 100, "features": 6, "outputs": 3, "dtype": "float64", "lr": 0.1}
    task |= {"batch_size": 10, "within": 0.01, "repeats": 3, "seed": 0}
    base = {"leg": "a step", "status": "ok", "reason": None, "losses": [50.0, 4.0, 1.0]}
    return {
        "schema": 1, "datetime": "2026-11-23T20:00:00+00:00", "machine": "here",
        "commit_info": {"id": "0123456789abcdef", "dirty": False},
        "settings": {"threads": 1}, "packages": {}, "task": task,
        "closed_form_loss": 1.0, "target": 1.01,
        "trained": [
            base | {"trainer": "TorchLinearRegression", "seconds": [4.0, 6.0, 5.0]},
            base | {"trainer": "fast", "seconds": [2.0, 2.0, 1.0]},
            base | {"trainer": "lost", "status": "unsupported", "reason": "no", "losses": []},
        ],
    } | changed  # fmt: skip


def test_ratios_are_taken_within_each_pass() -> None:
    table = curves_table(Curves.model_validate(stored())).set_index("trainer")
    assert table.index.tolist() == ["fast", "TorchLinearRegression", "lost"]
    assert table.loc["fast", "times as fast as torch.nn's (range)"] == "3.00× (2.00–5.00)"
    assert table.loc["TorchLinearRegression", "times as fast as torch.nn's (range)"] == "baseline"
    assert table.loc["lost", "status"] == "unsupported: no"


def test_the_newest_of_each_machine_and_task_is_shown(tmp_path: Path) -> None:
    for number, changed in enumerate(
        ({}, {"datetime": "2026-11-24T00:00:00+00:00", "closed_form_loss": 2.0}, {"machine": "x"})
    ):
        (tmp_path / f"{number}.json").write_text(json.dumps(stored(**changed)))
    found = latest_curves(tmp_path)
    assert [(one.machine, one.closed_form_loss) for one in found] == [("here", 2.0), ("x", 1.0)]
    assert len(set(names(found))) == 2


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 1}', json.dumps(stored(schema=2)),
             json.dumps(stored(machine="../../up")), json.dumps(stored(target=math.nan)),
             json.dumps(stored(closed_form_loss=-1.0)), json.dumps(stored(trained=3))],
)  # fmt: skip
def test_a_file_that_holds_none_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match="fit curves are what") as error:
        latest_curves(tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_shown_is_escaped_and_drawn(tmp_path: Path) -> None:
    trained = stored()["trained"]
    trained[1]["trainer"] = "<script>$x$|"
    found = Curves.model_validate(stored(trained=trained))
    text = curves_section(found, "figures/a.png")
    assert "<script>" not in text
    assert "within 1%" in text
    figure = curves_figure(found)
    figure.savefig(tmp_path / "a.png")
    (axes,) = figure.axes
    lines = [
        line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_label()[0] != "_"
    ]
    assert len(lines) == 2  # the one without a time is not drawn
    assert np.asarray(lines[0].get_xdata())[-1] in (5.0, 2.0)


def test_the_command_measures_in_processes_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["curves", "--rows", "300", "--passes", "1", "--out", str(tmp_path)]
    assert main(argv) == 0
    (found,) = latest_curves(tmp_path)
    assert {one.trainer for one in found.trained} == set(TRAINERS)
    timed = [one for one in found.trained if one.status == "ok"]
    assert {"auto_step", "sklearn LinearRegression", "TorchLinearRegression"} <= {
        one.trainer for one in timed
    }
    for one in timed:
        assert one.losses[-1] <= found.target < one.losses[-2]
        assert len(one.seconds) == 1
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines()[:5])) <= 80


@pytest.mark.parametrize(
    "argv", [["--rows", "0"], ["--lr", "-1"], ["--lr", "nan"], ["--dtype", "int8"]]
)
def test_a_mistake_is_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["curves", *argv])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_process_that_takes_too_long_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "LONGEST_PASS_S", 0.2)  # less than it takes to import torch
    with pytest.raises(UserError, match=r"may take 0\.2 s and took longer, so it was killed"):
        curves.measure_curves(SMALL, 1, tmp_path, lambda _: None)
    assert not list(tmp_path.rglob("*"))
