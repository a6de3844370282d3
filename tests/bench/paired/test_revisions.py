"""`paired` against another revision of the repository that the tests lie in."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from paired_sessions import ONE_PROCESS, pairs_of, run
from paths import HELPERS, ROOT

from bench.common.errors import UserError
from bench.paired.revisions import Revision, export

PROJECT = """
[tool.pytest.ini_options]
pythonpath = ["src"]

[tool.mlr-bench]
packages = ["src/theirs"]
build = ["python", "-c", "open('src/theirs/built.py', 'w').write('BUILT = True')"]
"""
CONFTEST = """
import sys

sys.path.append({outside!r})
"""
WORK = """
VERSION = {version!r}

def work(count):
    return sum(range(count))
"""
TESTS = """
import importlib
from pathlib import Path
import theirs

NOTES = Path({notes!r})

def noting(count):
    if not NOTES.exists() or theirs.VERSION not in NOTES.read_text():
        with NOTES.open("a") as file:
            file.write(theirs.VERSION + " ")
        if theirs.VERSION == "old":
            importlib.import_module("theirs.built")
    return theirs.work(count)

def test_first(paired):
    paired(dict, dict)
    paired(noting, against="main", inputs=lambda: 100)
{more}
def test_last(paired):
    paired(theirs.work, inputs=lambda: 100, against="main", slower_than=1.2)

def test_outside(paired):
    import other
    paired(other.other, against="main")
"""
MORE = """
def test_of_no_function(paired):
    paired(lambda: theirs.new(), against="main")

def test_is_new(paired):
    paired(theirs.work, against="main", inputs=lambda: 100)

def test_of_no_revision(paired):
    paired(theirs.work, against="nonsense", inputs=lambda: 100)
"""
OLD_MORE = """
def test_of_no_function(paired):
    paired(lambda: theirs.new(), against="main")
"""


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose working tree differs from `main`."""
    root = tmp_path / "repository"
    for folder in ("src/theirs", "tests", "outside"):
        (root / folder).mkdir(parents=True)
    outside = root / "outside"
    (root / ".gitignore").write_text("outside\n")
    (outside / "other.py").write_text("def other():\n    return 1\n")
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "conftest.py").write_text(CONFTEST.format(outside=str(outside)))
    package, tests = root / "src" / "theirs" / "__init__.py", root / "tests" / "test_own.py"
    notes = str(tmp_path / "notes.txt")
    package.write_text(WORK.format(version="old"))
    tests.write_text(TESTS.format(notes=notes, more=OLD_MORE))
    git(root, "init")
    git(root, "add", ".")
    git(root, "commit", "-m", "base")
    package.write_text(WORK.format(version="new") + "\ndef new():\n    return 1\n")
    tests.write_text(TESTS.format(notes=notes, more=MORE))
    (root / "tests" / "test_added.py").write_text(
        "def test_added(paired):\n    paired(dict, against='main')\n"
    )
    return root


def test_a_test_is_timed_against_itself_at_another_revision(repository: Path) -> None:
    """Each with the code of its own; what a revision has not is one line."""
    out = repository.parent / "out.json"
    done = run(repository / "tests", "--paired", ONE_PROCESS, f"--paired-json={out}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "5 failed, 2 inconclusive" in done.stdout, done.stdout
    assert set((repository.parent / "notes.txt").read_text().split()) == {"old", "new"}
    found = {name.rpartition("test_")[2]: one for name, one in pairs_of(out).items()}
    for name in ("first#1", "first#2", "last#1"):
        assert found[name]["processes"] == 1
        assert found[name]["ours_bytes"] is not None
        assert found[name]["theirs_bytes"] is not None
    assert found["last#1"]["against"] == "main"
    assert not (repository / "src" / "theirs" / "built.py").exists()
    for said in (
        "against main: ours must not raise; AttributeError: module 'theirs' has no attribute 'new'",
        "against main: there is no such test, or no such pair in it",
        "against main: its file is not in main (",
        "against main: all must come from that revision; other comes from ",
    ):
        assert said in done.stdout, said
    assert re.search("against nonsense: a version is .*; 'nonsense' is none", done.stdout)
    assert "Traceback" not in done.stdout + done.stderr
    assert "During handling" not in done.stdout


INSTALLED = """
import os
import tracemalloc
from pathlib import Path
import theirs

def test_version(paired, tmp_path):
    with Path({notes!r}).open("a") as file:
        print(theirs.VERSION, Path(theirs.__file__).parent, tmp_path, file=file)
    paired(theirs.work, inputs=lambda: 100, against="main")

def test_counts(paired):
    def ours():
        assert theirs.VERSION == "old" or not tracemalloc.is_tracing(), "counted"
    paired(ours, against="main", larger_than=2)

def test_last(paired):
    paired(theirs.work, inputs=lambda: 100, against="main")
"""


def test_without_a_table_modules_are_looked_for_in_src_and_at_the_root(tmp_path: Path) -> None:
    root, link = tmp_path / "repository", tmp_path / "link"
    link.symlink_to(root)
    for name, expected in (("README", [""]), ("src/theirs.py", ["src", ""])):
        path = root / name
        path.parent.mkdir(parents=True)
        path.touch()
        git(root, "init")
        git(root, "add", ".")
        git(root, "commit", "-m", name)
        folder = tmp_path / path.name
        made = export("main", folder, link)
        assert made.version.paths == tuple(folder / one for one in expected)
        assert (made.packages, made.link) == ((), link)
        assert made.text(f"{link}/tests") == f"{folder}/tests"


@pytest.mark.slow
def test_what_is_installed_is_not_compared_with_itself(tmp_path: Path) -> None:
    """In a repository with src that names no packages, reached by a link, from a new folder."""
    root, link, notes = tmp_path / "repository", tmp_path / "link", tmp_path / "notes.txt"
    installed, given = tmp_path / "site-packages", tmp_path / "given"
    for folder in (root / "src" / "theirs", root / "tests", installed / "theirs"):
        folder.mkdir(parents=True)
    link.symlink_to(root)
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "src" / "theirs" / "__init__.py").write_text(WORK.format(version="old"))
    (root / "tests" / "test_own.py").write_text(INSTALLED.format(notes=str(notes)))
    git(root, "init")
    git(root, "add", ".")
    git(root, "commit", "-m", "base")
    (installed / "theirs" / "__init__.py").write_text(WORK.format(version="new"))
    (root / "build").mkdir()
    out = tmp_path / "out.json"
    options = ("--paired", ONE_PROCESS, f"--paired-json={out}", f"--basetemp={given}")
    paths = (ROOT, HELPERS, installed)
    done = run(root / "build", *options, link / "tests", paths=paths)
    assert "1 failed, 2 inconclusive" in done.stdout, done.stdout + done.stderr
    assert "against main: a call must not raise; AssertionError: counted" in done.stdout
    lines = [line.split() for line in notes.read_text().splitlines()]
    assert [version for version, *_ in lines] == ["new", "old", "new"]  # the last is the session
    places = {Path(place) for version, place, _ in lines if version == "new"}
    assert places == {installed / "theirs"}
    folders = [Path(folder) for *_, folder in lines]
    assert [given in one.parents for one in folders] == [False, False, True]
    assert folders[-1].is_dir()
    found = {name.rpartition("test_")[2]: one for name, one in pairs_of(out).items()}
    assert {found[name]["processes"] for name in ("version#1", "last#1")} == {1}


def test_without_a_repository_it_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="against= takes a revision of the tests' "):
        export("main", tmp_path / "out", tmp_path)


def test_paths_of_the_repository_become_those_of_the_revision(tmp_path: Path) -> None:
    folder, root = (tmp_path / "out").resolve(), (tmp_path / "repository").resolve()
    (folder / "src").mkdir(parents=True)
    (root / "env").mkdir(parents=True)
    version: Any = SimpleNamespace(folder=folder, paths=(folder / "src",))
    revision = Revision(version, root, ())
    assert revision.place(root / "tests" / "test_a.py") == folder / "tests" / "test_a.py"
    assert revision.place(tmp_path / "else") == (tmp_path / "else").resolve()
    for argument, expected in (
        (f"--rootdir={root}", f"--rootdir={folder}"),
        (f"{root}/tests/test_a.py::test_b[{1}]", f"{folder}/tests/test_a.py::test_b[1]"),
        (f"{root}-other/x", f"{root}-other/x"),
        ("-k", "-k"),
    ):
        assert revision.text(argument) == expected
    linked = revision._replace(link=tmp_path / "link")
    (tmp_path / "link").symlink_to(root)
    assert linked.text(f"--rootdir={tmp_path / 'link'}") == f"--rootdir={folder}"
    assert linked.text(f"{tmp_path / 'link'}/a::b") == f"{folder}/a::b"
    assert linked.text(f"{root}/a") == f"{folder}/a"
    assert linked.text(f"{tmp_path / 'link'}s/a") == f"{tmp_path / 'link'}s/a"
    assert linked.search_paths([str(tmp_path / "link" / "src")])[-1] == str(folder / "src")
    paths = ["", str(root / "env"), str(root / "src"), "/usr/lib"]
    own = str(folder / "src")
    assert revision.search_paths(paths) == [own, "", str(root / "env"), own, "/usr/lib"]
