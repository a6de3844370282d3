"""What a gate lets pass: on the command line and in pyproject."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli.main import make_parser
from bench.cli.types import count, duration, share
from bench.common.errors import UserError
from bench.gate.config import GateConfig, Thresholds, read_config, read_project


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        *((duration, "90", 90), (duration, "90s", 90), (duration, "10m", 600)),
        *((duration, "1.5h", 5400), (share, "2%", 0.02), (share, "0.02", 0.02)),
        *((share, "0%", 0), (share, "150%", 1.5)),
    ],
)
def test_durations_and_shares_are_numbers(
    read: Callable[[str], float], text: str, value: float
) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "rule", "texts"),
    [
        (duration, "takes a time", ["", "0", "-1m", "10 m", "1d", "inf", "nan", "1e3", "²"]),
        (share, "takes a share", ["", "-2%", "2 %", "1000%", "nan", "%", "٢%"]),
        (count, "takes 1 to 100", ["0", "101", "-1", "x", "1.5", ""]),
    ],
)
def test_what_is_no_such_value_is_refused(
    read: Callable[[str], float], rule: str, texts: list[str]
) -> None:
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match=rule):
            read(text)


def config(pyproject: Path, *options: str) -> GateConfig:
    """Read what a command line and a pyproject file say."""
    return read_config(make_parser("gate").parse_args(["gate", "HEAD", *options]), pyproject)


def test_a_kernel_may_have_thresholds_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[tool.mlr-bench.gate]\nallow_regression = ["einsum"]\n[tool.mlr-bench.gate.kernels]\n'
        "jacrev = {threshold = 0.1, equivalence_margin = 0.2}\nmatmul = {equivalence_margin = 1}\n"
    )
    found = config(path, "--allow-regression=matmul,,outer_sum", "--threshold=3%")
    assert found.allow_regression == {"einsum", "matmul", "outer_sum"}
    assert found.by_kernel == {
        "jacrev": Thresholds(threshold=0.1, equivalence_margin=0.2),
        "matmul": Thresholds(threshold=0.03, equivalence_margin=1.0),
    }
    assert found.thresholds == Thresholds(threshold=0.03, equivalence_margin=0.05)
    assert config(tmp_path / "none.toml") == GateConfig()


def test_what_is_compared_stands_in_the_same_table(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    assert read_project(path).is_of_mlr
    path.write_text('[tool.mlr-bench]\npackages = ["src/a", "b"]\nbuild = ["make"]\n')
    found = read_project(path)
    assert (found.names, found.build, found.is_of_mlr) == (["a", "b"], ["make"], False)


def test_a_threshold_is_an_option_with_its_default_in_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        make_parser("gate").parse_args(["gate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "a slow-down that must be found (default: 5%)" in text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[tool.mlr-bench.gate]\nallow = []", "allow: Extra inputs"),
        ("[tool.mlr-bench.gate]\nallow_regression = 1", "allow_regression: "),
        ("[tool.mlr-bench.gate.kernels.matmul]\nthreshold = '5%'", "kernels.matmul: threshold: "),
        ("[tool.mlr-bench.gate.kernels.matmul]\nthreshold = nan", "kernels.matmul: threshold: "),
        (
            "[tool.mlr-bench.gate.kernels.matmul]\ntarget = 0.1",
            "kernels.matmul: target: Extra inputs",
        ),
        (
            "[tool.mlr-bench.gate.kernels.matmul]\nequivalence_margin = 0.01",
            "kernels.matmul: --equivalence-margin must be above --threshold",
        ),
        ("[tool.mlr-bench.gate", "must be readable TOML"),
        ("tool = 1", "must be readable TOML"),
        ("[tool.mlr-bench]\npackage = ['theirs']", "package: Extra inputs"),
        ("[tool.mlr-bench]\npackages = 'theirs'", "packages: "),
        (
            "[tool.mlr-bench]\npackages = []",
            "packages are one or more, of different names, and mlr",
        ),
        ("[tool.mlr-bench]\npackages = ['a', 'src/a']", "of different names"),
        ("[tool.mlr-bench]\npackages = ['mlr', 'a']", "and mlr only by itself; got mlr, a"),
        ("[tool.mlr-bench]\npackages = ['/a']", "by its path in the repository as src/theirs; got"),
        ("[tool.mlr-bench]\npackages = ['../a']", "name the folder or the module, without .py"),
        ("[tool.mlr-bench]\npackages = ['a.py']", "got 'a.py'"),
        ("[tool.mlr-bench]\nbuild = 'make'", "build: "),
    ],
)
def test_a_mistake_in_the_table_is_one_line(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        config(path)
    assert part in str(error.value)
    assert "\n" not in str(error.value)
