"""The workflows are what GitHub takes."""

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from paths import ROOT
from ruamel.yaml import YAML

from bench.gate.sequential import ExitStatus


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.name
)
def test_a_workflow_keeps_to_the_schema(path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    command += ["vendor.github-workflows", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_gates_job_has_its_base_its_summary_and_its_exit_statuses() -> None:
    text = (ROOT / ".github/workflows/bench.yml").read_text(encoding="utf-8")
    steps = YAML(typ="safe").load(text)["jobs"]["gate"]["steps"]
    (checkout,) = (step for step in steps if step.get("uses", "").startswith("actions/checkout"))
    assert checkout["with"]["fetch-depth"] == 0
    assert any(step.get("run", "").startswith("tox -e gate -- ") for step in steps)
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    assert tox["testenv:gate"]["pass_env"] == "GITHUB_*"  # by which it knows where to write
    for status in ExitStatus:
        assert f"#   {status} " in text
