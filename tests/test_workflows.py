"""The workflows are what GitHub takes."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def verdict_on(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    return subprocess.run(
        [*command, "vendor.github-workflows", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.name
)
def test_a_workflow_keeps_to_the_schema(path: Path) -> None:
    done = verdict_on(path)
    assert done.returncode == 0, done.stdout


def test_one_that_does_not_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "ci.yml"
    path.write_text("name: x\non: push\njobs: {a: {steps: [{run: true}]}}\n")
    assert verdict_on(path).returncode != 0
