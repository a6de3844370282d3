"""What a gate lets pass: on the command line and in pyproject."""

import argparse
from pathlib import Path

import pytest

from bench.cli.types import count, duration, share
from bench.common.errors import UserError
from bench.common.units import as_duration
from bench.gate.config import kernel_rules, read_table, rule_of
from bench.gate.sequential import Rule


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400)]
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "10s"), (81, "90s"), (91, "2m"), (3_600, "60m"), (3_601, "1.1h")]
)
def test_a_duration_is_written_as_it_is_read(seconds: float, text: str) -> None:
    assert as_duration(seconds) == text
    assert duration(text) >= seconds


@pytest.mark.parametrize(
    ("text", "value"), [("2%", 0.02), ("0.02", 0.02), ("0%", 0), ("150%", 1.5)]
)
def test_a_share_is_a_number(text: str, value: float) -> None:
    assert share(text) == value


@pytest.mark.parametrize("text", ["", "0", "-1m", "10 m", "1d", "inf", "nan", "1e3", "²"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="takes a time"):
        duration(text)


@pytest.mark.parametrize("text", ["", "-2%", "2 %", "1000%", "nan", "%", "٢%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="takes a share"):
        share(text)


@pytest.mark.parametrize("text", ["0", "101", "-1", "x", "1.5", ""])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="takes 1 to 100"):
        count(text)


def test_a_kernel_may_have_rules_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[tool.mlr.gate]\nallow = ["einsum"]\n[tool.mlr.gate.kernels]\n'
        "jacrev = {tolerance = 0.1, target = 0.2}\nmatmul = {target = 0.03}\n"
    )
    table = read_table(path)
    assert table.allow == ["einsum"]
    rules = kernel_rules(table, Rule())
    assert rules["jacrev"] == Rule(tolerance=0.1, target=0.2)
    assert rules["matmul"] == Rule(tolerance=0.02, target=0.03)
    assert read_table(tmp_path / "none.toml").kernels == {}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[tool.mlr.gate]\nalow = []", "alow"),
        ("[tool.mlr.gate]\nallow = 1", "allow"),
        ("[tool.mlr.gate.kernels.matmul]\ntarget = '5%'", "kernels.matmul.target"),
        ("[tool.mlr.gate.kernels.matmul]\ntarget = nan", "kernels.matmul.target"),
        ("[tool.mlr.gate", "must be readable TOML"),
    ],
)
def test_a_mistake_in_the_table_is_one_line(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=part) as error:
        read_table(path)
    assert "\n" not in str(error.value)


def test_a_target_must_be_above_the_tolerance_and_the_line_says_which_is_which(
    tmp_path: Path,
) -> None:
    assert rule_of(0.02, 0.05) == Rule()
    with pytest.raises(UserError, match=r"got --target 5% and --tolerance 50%: raise the target"):
        rule_of(0.5, 0.05)
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.mlr.gate.kernels.jacrev]\ntarget = 0.01\n")
    with pytest.raises(UserError, match=r"--target 1% and --tolerance 2% for kernel jacrev \(\["):
        kernel_rules(read_table(path), Rule())
