"""`python -m mlr`: what it prints, and its exit codes."""

import dataclasses
import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from paths import ROOT

from mlr import KERNELS, Gradient
from mlr.__main__ import limit, main

QUICK = ["--samples", "300", "--epochs", "3"]


def mape_rows(out):
    rows = re.findall(r"^(\w+Regression) +(before|after copy|after training) +(.*)$", out, re.M)
    return {(model, when): [float(cell) for cell in cells.split()] for model, when, cells in rows}


def test_seed_experiment(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    logs = re.findall(r"^ +(\d+)((?: +\d+\.\d{4}){6})$", out, re.M)
    assert [int(epoch) for epoch, _ in logs] == list(range(16))
    for _, losses in logs:
        pairs = losses.split()
        assert pairs[:2] == pairs[2:4] == pairs[4:]  # equal to 4 decimals
    rows = mape_rows(out)
    assert len(rows) == 6
    for model in ("LinearRegression", "EinsumLinearRegression"):
        assert min(rows[model, "before"]) > 1
        assert rows[model, "after copy"] == [0, 0, 0]
        assert max(rows[model, "after training"]) <= 1e-12


@pytest.mark.parametrize(
    "argv",
    [
        ["--dataset", "linnerud"],
        ["--dataset", "linnerud", "--dtype", "float32", "--seed", "7"],
        ["--dataset", "digits", "--epochs", "1"],
        ["--samples", "50", "--features", "1", "--targets", "1", "--train", "34"],
        [*QUICK, "--lr", "0.1", "--batch", "1000", "--device", "cpu"],
    ],
    ids=" ".join,
)
def test_options(argv, capsys):
    assert main(argv) == 0
    assert "agree with torch.nn" in capsys.readouterr().out


def test_seed_makes_the_output(capsys):
    outs = []
    for seed in ("1", "1", "2"):
        main([*QUICK, "--seed", seed])
        outs.append(capsys.readouterr().out)
    assert outs[0] == outs[1] != outs[2]


@pytest.mark.parametrize(("error", "code"), [(1e-8, 1), (1e-16, 0), (float("nan"), 2)])
def test_a_kernel_that_is_off_is_exit_1(error, code, monkeypatch, capsys):
    good = KERNELS["matmul"]

    def off(x, delta):
        return Gradient(x.T @ delta * (1 + error), delta.sum(0))

    monkeypatch.setitem(KERNELS, "matmul", dataclasses.replace(good, function=off))
    assert main(QUICK) == code  # NaN gradients: the training diverges, exit 2
    if code == 1:
        out = capsys.readouterr().out
        assert "LinearRegression after training: weight" in out
        assert "The scratch models differ from torch.nn" in out


def test_limit_follows_eps():
    assert limit(torch.float64) == 1e-10
    assert limit(torch.float32) == pytest.approx(0.0537, rel=1e-3)


BAD = [
    (["--dataset", "iris"], "argument --dataset: invalid choice: 'iris' (choose from "),
    (["--device", "tpu"], "a device is cpu, cuda or cuda:N; got 'tpu'"),
    (["--dtype", "int8"], "argument --dtype: invalid choice: 'int8'"),
    (["--epochs", "0"], "--epochs must be an integer at least 1; got 0"),
    (["--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
    (["--lr", "nan"], "lr must be a finite number; got nan"),
    (["--lr", "1e9"], "training must keep a finite loss; got MSE "),
    (["--batch", "0"], "--batch must be"),
    (["--seed", "-1"], "seed must be an integer from 0"),
    (
        ["--train", "10100"],
        "--train must leave rows of --samples for validation; got --train 10100",
    ),
    (
        ["--samples", "50"],
        "--train must leave rows of --samples for validation; got --train 100 of",
    ),
    (["--targets", "0"], "--targets must be an integer at least 1; got 0"),
    (["--samples", "1000000000000000"], "data and Jacobian must fit in memory; "),
    (["--samples", "50", "--dataset", "digits"], "--samples goes with --dataset make_regression"),
    (["--what\nis this"], "unrecognized arguments: --what is this"),
]


@pytest.mark.parametrize(("argv", "message"), BAD, ids=[" ".join(argv) for argv, _ in BAD])
def test_bad_input_is_one_line_and_exit_2(argv, message, capsys):
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_a_lack_of_memory_is_told_from_other_errors_of_a_device(monkeypatch, capsys):
    said = iter(["out of memory", "an illegal memory access was encountered"])

    def fails(_):
        raise RuntimeError(f"CUDA error: {next(said)}")

    monkeypatch.setattr("mlr.__main__.run", fails)
    assert main(QUICK) == 2
    assert "must fit in memory; CUDA error: out of memory; choose" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="illegal memory access"):
        main(QUICK)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_interrupt_is_one_line_and_130(monkeypatch, capsys):
    def interrupt(*_):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("mlr.__main__.refuse_divergence", interrupt)
    assert main(QUICK) == 130
    assert capsys.readouterr().err == "interrupted: nothing was kept\n"


# As after `python -m mlr`, but for data of its own: scikit-learn takes seconds to be imported.
WITH_OTHER_DATA = """
import sys, torch
from mlr import __main__ as program, data
shapes = (100, 6), (100, 3), (200, 6), (200, 3)
program.load = lambda _: data.Dataset(*(torch.randn(*one, dtype=torch.float64) for one in shapes))
sys.exit(program.main(["--epochs=1"]))
"""


def test_a_reader_that_leaves_is_exit_141_and_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-c", WITH_OTHER_DATA],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 141
