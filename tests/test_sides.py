"""Where the two sides of a gate come from, and that both live in one process."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mlr
from bench.errors import UserError
from bench.sides import PREFIX, load, scratch, take

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout of two commits: without the package, and with it."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "README").write_text("nothing yet")
    commit(root, "empty")
    shutil.copytree(ROOT / "mlr", root / "mlr", ignore=shutil.ignore_patterns("__pycache__"))
    commit(root, "package")
    return root


def commit(root: Path, message: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", message]):
        subprocess.run(["git", *command], cwd=root, check=True, capture_output=True)


def test_a_revision_is_taken_as_it_was_committed(repository: Path, tmp_path: Path) -> None:
    (repository / "mlr" / "metrics.py").write_text("broken after the commit")
    side = take("HEAD", tmp_path / "old", repository)
    assert side.commit is not None
    assert len(side.commit) == 40
    assert "def mape" in (side.folder / "mlr" / "metrics.py").read_text()
    side.require_unchanged()  # a revision cannot change


@pytest.mark.parametrize("text", ["no-such-branch", "--help", "HEAD:mlr", "; rm -rf x", ""])
def test_what_is_no_revision_is_one_clear_line(repository: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="is a git revision, a wheel or a directory") as error:
        take(text, tmp_path / "old", repository)
    assert "\n" not in str(error.value)


def test_a_side_without_the_package_is_refused(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must hold the package mlr"):
        take("HEAD~1", tmp_path / "old", repository)


def test_without_git_a_directory_still_does(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="git itself cannot be run"):
        take("HEAD", tmp_path / "old", repository)
    assert take(str(repository), tmp_path / "new", tmp_path).commit is None


def test_a_wheel_is_unpacked_and_nothing_but_its_package(tmp_path: Path) -> None:
    wheel = tmp_path / "mlr-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in (ROOT / "mlr").glob("*.py"):
            archive.write(path, f"mlr/{path.name}")
        archive.writestr("../escaped.py", "")
        archive.writestr("mlr/../../escaped.py", "")
    side = take(str(wheel), tmp_path / "a" / "b", ROOT)
    assert (side.folder / "mlr" / "registry.py").is_file()
    assert not list(tmp_path.glob("escaped.py")) + list((tmp_path / "a").glob("escaped.py"))
    wheel.write_bytes(b"no zip")
    with pytest.raises(UserError, match="a wheel must be a readable zip file"):
        take(str(wheel), tmp_path / "c", ROOT)


def test_a_tree_that_changes_meanwhile_is_noticed(repository: Path, tmp_path: Path) -> None:
    side = take(None, tmp_path / "new", repository)
    assert side.text == "working tree"
    side.require_unchanged()
    path = repository / "mlr" / "gradients.py"
    path.write_text(path.read_text() + "\n# later\n")
    with pytest.raises(UserError, match="must stay as it is while it is measured"):
        side.require_unchanged()


def test_two_versions_live_beside_the_harness_own(tmp_path: Path) -> None:
    before = dict(mlr.KERNELS)
    shutil.copytree(ROOT / "mlr", tmp_path / "mlr")
    text = (tmp_path / "mlr" / "gradients.py").read_text()
    (tmp_path / "mlr" / "gradients.py").write_text(text.replace("def outer_sum(", "def other("))
    try:
        old, new = load(ROOT, "mlr_test_old"), load(tmp_path, "mlr_test_new")
        assert old.KERNELS["einsum"] is not new.KERNELS["einsum"]
        assert "outer_sum" in old.KERNELS
        assert "outer_sum" not in new.KERNELS
        assert before == mlr.KERNELS
    finally:
        for name in [n for n in sys.modules if n.startswith("mlr_test_")]:
            del sys.modules[name]


def test_what_a_killed_gate_left_is_cleared_and_a_living_ones_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = tmp_path / f"{PREFIX}999999999-abc"
    living = tmp_path / f"{PREFIX}{os.getppid()}-abc"
    foreign = tmp_path / f"{PREFIX}notes"
    for folder in (dead, living, foreign):
        (folder / "old").mkdir(parents=True)
    with scratch() as mine:
        assert mine.is_dir()
        assert not dead.exists()
        assert living.exists()
        assert foreign.exists()
    assert not mine.exists()
