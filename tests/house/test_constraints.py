"""What is installed: a resolver accepts the pins, and every import is declared.

The resolver is uv's, which answers for any Python and platform; pip's evaluates the markers of the
Python that it runs in. Needs the package index, as installing does.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
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


def named(requirements: list[object]) -> set[str]:
    """Return the distributions that requirements name, by PyPI's spelling."""
    found = set()
    for one in requirements:
        if isinstance(one, str):
            found.add(re.match(r"[\w.-]+", one)[0].lower().replace("_", "-"))
        else:
            found |= named(PROJECT["dependency-groups"][one["include-group"]])
    return found


def imported(folder: str) -> set[str]:
    """Return the top-level names that a folder's modules import, wherever they stand."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"mlr", "bench"}


@pytest.mark.parametrize("folder", ["mlr", "bench"])
def test_every_import_is_declared(folder: str) -> None:
    project = PROJECT["project"]
    declared = named(project["dependencies"])
    declared |= {
        name for extra in project["optional-dependencies"].values() for name in named(extra)
    }
    declared |= {"triton", "numpy"}  # torch brings them, and without it neither is imported
    if folder == "bench":
        declared |= named(PROJECT["dependency-groups"]["bench"])
    known = {"pynvml": ["nvidia-ml-py"], **packages_distributions()}  # the one that is optional
    for module in sorted(imported(folder)):
        of = {name.lower().replace("_", "-") for name in known.get(module, [module])}
        assert of & declared, f"{module}, of {', '.join(of)}, is not declared in pyproject.toml"


def test_the_distribution_is_named_as_nobody_elses() -> None:
    """`pip install mlr` and `pip install bench` bring what strangers have published."""
    assert PROJECT["project"]["name"] == "mlr-bench"
    texts = [
        *ROOT.glob("*.md"),
        *(ROOT / "results").glob("*.md"),
        *(ROOT / ".github").rglob("*.yml"),
    ]
    texts += [*(ROOT / "mlr").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    for path in texts:
        said = re.search(r"pip install (-\S+ )*'?(mlr|bench)\b", path.read_text(encoding="utf-8"))
        assert said is None, f"{path}: {said[0]}"
