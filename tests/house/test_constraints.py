"""What is installed: a resolver accepts the pins, and the name is nobody else's.

The resolver is uv's, which answers for any Python and platform; pip's evaluates the markers of the
Python that it runs in. Needs the package index, as installing does.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from itertools import product
from pathlib import Path

import pytest
from paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("x86_64-unknown-linux-gnu", "aarch64-apple-darwin")
# `===` takes no build with a local version such as +cpu, which needs no Triton and so hides a clash
# that everyone who installs torch from PyPI would meet.
TORCH = re.search(r"^torch==(.+)$", CONSTRAINTS, re.MULTILINE)[1]


def resolve(constraints: Path, python: str, platform: str) -> subprocess.CompletedProcess[str]:
    """Ask for the library with its peers and every dependency group at once."""
    groups = [f"--group={name}" for name in PROJECT["dependency-groups"]]
    return subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "-"),
            *("pyproject.toml", "--all-extras", *groups, "--constraints", str(constraints)),
            *("--python-version", python, "--python-platform", platform),
        ],
        cwd=ROOT,
        env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"},  # the oldest torch is built for
        input=f"torch==={TORCH}",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("python", "platform"),
    [
        (PYTHONS[0], PLATFORMS[0]),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in [*product(PYTHONS, PLATFORMS)][1:]),
    ],
)
def test_the_pins_agree_with_torch_as_pypi_has_it(python: str, platform: str) -> None:
    done = resolve(ROOT / "constraints.txt", python, platform)
    assert done.returncode == 0, done.stderr
    assert f"torch=={TORCH}\n" in done.stdout
    assert ("triton==" in done.stdout) == ("linux" in platform)


def test_a_pin_that_contradicts_torch_is_seen(tmp_path: Path) -> None:
    other = tmp_path / "constraints.txt"
    other.write_text(re.sub(r"^triton==.+$", "triton==3.9.0", CONSTRAINTS, flags=re.MULTILINE))
    done = resolve(other, "3.11", PLATFORMS[0])
    assert done.returncode != 0
    assert "triton" in done.stderr


def test_the_distribution_is_named_as_nobody_elses() -> None:
    """`pip install mlr` and `pip install bench` bring what strangers have published."""
    assert PROJECT["project"]["name"] == "mlr-bench"
    kinds = ("*.md", "results/*.md", ".github/**/*.yml", "mlr/**/*.py", "bench/**/*.py")
    for path in (path for kind in kinds for path in ROOT.glob(kind)):
        said = re.search(r"pip install (-\S+ )*'?(mlr|bench)\b", path.read_text(encoding="utf-8"))
        assert said is None, f"{path}: {said[0]}"
