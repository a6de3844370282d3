"""The gate in somebody else's repository: of torch, of NumPy alone, and of an extension module.

Whole gates by the installed wheel are slow tests; the others have made-up times, which follow from
what the exported versions do, or look at one process.
"""

import json
import math
import random
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from installed import Environment, build_wheel
from repositories import (
    BASE,
    EXTENSION,
    KERNEL_FILE,
    REFACTOR,
    SLOWER,
    in_c,
    in_python,
    needs_compiler,
    settings,
    tag,
    write,
)
from versions import commit, forgetting_packages

import mlr
from bench.cli.main import main
from bench.gate import worker
from bench.gate.blocks import CONTROL, HEAD, SPEC, Found, KernelCase, Spec, sharing_fails
from bench.gate.config import read_project
from bench.gate.loading import load
from bench.gate.repository import import_worktree
from bench.gate.versions import Version, checkout_versions
from mlr import Case

KERNELS = Path("bench", "kernels.py")


@pytest.fixture(autouse=True)
def undone() -> Iterator[None]:
    with forgetting_packages("shared", "core", "ours"):
        yield


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository of a package that uses torch, in which one stands."""
    root = in_python(tmp_path / "theirs", "torch")
    monkeypatch.setattr("bench.cli.commands.gate.ROOT", root)
    return root


def checkout(root: Path, place: Path, base: str, head: str | None) -> tuple[Version, Version]:
    project = read_project(root / "pyproject.toml")
    return checkout_versions(base, head, place, root, root / KERNELS, project=project)


def at(root: Path, tag: str) -> None:
    subprocess.run(["git", "checkout", "-q", tag], cwd=root, check=True)


def failing(root: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that a gate ends with, before anything is measured."""
    assert main(["gate", *arguments, f"--out={root.parent / 'out'}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    return said


# Whole gates, with what a process would find made up


def rounds_of(folder: str) -> int:
    """Return how often a version computes its sines."""
    text = Path(folder, "theirs", "core.py").read_text(encoding="utf-8")
    return int(text.partition("range(")[2].partition(")")[0])


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Processes whose times are the work of the versions; say why they cannot share one."""
    told: dict[str, Any] = {"why": None, "specs": [], "pythons": []}

    def verified(spec: Spec, *_: str, **__: Any) -> tuple[dict[str, dict[str, str]], Found]:
        told["specs"].append(spec)
        result = {"metrics": {}, "judged_by_base": "base" in spec.folders}
        cases = {one.name: result for one in spec.cases}
        return {name: {one.kernel: "waves" for one in spec.cases} for name in spec.folders}, cases

    def timed(spec: Spec, pythons: Mapping[str, str]) -> Found:
        told["pythons"].append(pythons)
        noise = random.Random(spec.seed)
        ratio = rounds_of(spec.folders[HEAD]) / rounds_of(spec.folders["base"])
        first = dict.fromkeys(("base", HEAD), 0.01)
        return {
            one.name: {"log_ratio": math.log(ratio) + noise.gauss(0, 0.003), "first_call_s": first}
            | ({"control": noise.gauss(0, 0.003)} if one.name == spec.control else {})
            for one in spec.cases
        }

    monkeypatch.setattr("bench.gate.gate.run_block", verified)
    monkeypatch.setattr("bench.gate.gate.measure_block", timed)
    monkeypatch.setattr("bench.gate.gate.sharing_fails", lambda spec: told["why"])
    return told


@pytest.mark.parametrize(("head", "status"), [(REFACTOR, 0), (SLOWER, 1)])
@pytest.mark.parametrize("why", [None, "KeyError: 'theirs'"])
def test_a_refactor_passes_and_more_work_fails(
    root: Path,
    made_up: dict[str, Any],
    head: str,
    status: int,
    why: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As the revisions say, whatever lies in the working tree; in one process, or in two."""
    made_up["why"] = why
    at(root, head)
    out = root.parent / "out"
    assert main(["gate", BASE, f"--out={out}"]) == status, capsys.readouterr()
    told = json.loads((out / "gate.json").read_text())
    assert [case["name"] for case in told["cases"]] == ["waves.theirs-cpu-float64-5000"]
    said = "\n".join(told["notes"])
    if why is None:
        assert "Both versions of theirs take turns in one process." in said
        assert set(map(len, made_up["pythons"])) == {0}
    else:
        apart = "Each version of theirs has a process of its own, in turns: KeyError: 'theirs'."
        assert apart in said
        assert "The head's oracle judges its results" in said
        assert set(map(len, made_up["pythons"])) == {2}
        assert [set(spec.folders) for spec in made_up["specs"]] == [{"base"}, {HEAD}]
    assert list((root / "theirs").glob("*")) != []
    assert (
        subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True).stdout
        == b""
    )


def test_an_axis_of_the_kernel_file_is_an_option(root: Path, made_up: dict[str, Any]) -> None:
    out = root.parent / "out"
    at(root, REFACTOR)
    assert main(["gate", BASE, "--length=70,80", f"--out={out}"]) == 0
    names = {case["name"] for case in json.loads((out / "gate.json").read_text())["cases"]}
    assert names == {f"waves.theirs-cpu-float64-{size}" for size in (70, 80)}


def offering(root: Path, monkeypatch: pytest.MonkeyPatch, text: str = KERNEL_FILE) -> None:
    """Let the package offer kernels by an entry point, as an installed one does."""
    write(root, {"theirs/kernels.py": text,
                 "pyproject.toml": '[tool.mlr-bench]\npackages = ["theirs"]\n'})  # fmt: skip
    write(root.parent / "site", {
        "theirs-1.dist-info/METADATA": "Name: theirs\nVersion: 1\n",
        "theirs-1.dist-info/entry_points.txt": "[mlr.kernels]\ntheirs = theirs.kernels\n",
    })  # fmt: skip
    monkeypatch.syspath_prepend(str(root.parent / "site"))


def kernels_told(out: Path) -> set[str]:
    """Return the kernels that a gate has compared."""
    told = json.loads((out / "gate.json").read_text())
    return {case["name"].partition("-")[0] for case in told["cases"]}


def test_what_a_package_offers_by_an_entry_point_is_compared(
    root: Path, made_up: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the kernels of mlr, which are the same on both sides."""
    offering(root, monkeypatch)
    out = root.parent / "out"
    assert main(["gate", BASE, "--length=70", f"--out={out}"]) == 1
    assert kernels_told(out) == {"waves.theirs"}


OF_GRADIENT = """
from mlr import Gradient, kernel
from theirs import waves_of

@kernel(operation="gradient")
def theirs(x, delta):
    return Gradient(x.T @ delta, waves_of(delta.sum(0)))
"""


@pytest.mark.parametrize(
    ("asked", "told"),
    [([], "theirs"), (["--operation=gradient"], "theirs"), (["--kernel=matmul"], "matmul")],
)
def test_a_kernel_of_a_built_in_operation_is_compared_alone(
    asked: list[str], told: str, root: Path, made_up: dict[str, Any]
) -> None:
    write(root, {KERNELS.as_posix(): OF_GRADIENT})
    out = root.parent / "out"
    assert main(["gate", BASE, *asked, f"--out={out}"]) == 1
    assert kernels_told(out) == {told}


def test_a_package_that_offers_none_is_said_so(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offering(root, monkeypatch, "")
    said = failing(root, BASE, capsys=capsys)
    assert "entry point mlr.kernels must register one; none of theirs does: decorate" in said


# What is a mistake


def test_nothing_that_differs_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(root, {".benchmarks/gate/gate.json": "", "theirs/__pycache__/core.pyc": ""})
    said = failing(root, SLOWER, capsys=capsys)
    assert f"the working tree does not differ from {SLOWER} (" in said


def test_a_base_that_is_not_committed_is_refused(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(root, {"theirs/core.py": (root / "theirs" / "core.py").read_text() + "\n"})
    said = failing(root, str(root), SLOWER, capsys=capsys)
    assert (
        f"a base is what was committed; {root} has changes that were not, as M theirs/core.py"
        in said
    )


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({"pyproject.toml": settings("thiers")}, "both versions; {root} has no thiers: name"),
        ({"pyproject.toml": settings("core"), "lib/core/__init__.py": ""},
         '{root} has no core; did you mean "lib/core"?'),
        ({"pyproject.toml": settings("theirs/core")},
         'is named whole, or the rest of it would not be compared; theirs/core is a part of '
         'theirs: name "theirs"'),
        ({"bench/kernels.py": OF_GRADIENT.replace('"gradient"', '"gradient", devices=("cuda",)')},
         "measure; none of the packages' own kernels is for it: see --device"),
        ({"pyproject.toml": '[tool.mlr-bench]\npackages = ["theirs"]\n'},
         'none is named: add kernel_files = ["bench/kernels.py"] to [tool.mlr-bench]'),
        ({"pyproject.toml": "[tool.mlr-bench]\npackages = 3\n"}, "packages: Input should be"),
        ({"bench/kernels.py": "import theirs.native\n" + KERNEL_FILE},
         "kernels.py:1: ModuleNotFoundError: No module named 'theirs.native'"),
        ({"bench/kernels.py": "raise SystemExit(1)\n"}, "could not measure: SystemExit: 1"),
        ({"pyproject.toml": settings("theirs", 'build = ["python", "-c", "raise OSError(7)"]\n')},
         "-c 'raise OSError(7)'` in working tree: it ended with 1: OSError: 7; try it in a "),
        ({"pyproject.toml": settings("theirs", 'build = ["no-such-program"]\n')},
         "no-such-program: No such file or directory"),
        ({"pyproject.toml": settings("theirs", 'build = ["true"]\n').replace("theirs", "built")},
         "packages of [tool.mlr-bench] must be in both versions; working tree has no built"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_working_tree_is_one_line(
    root: Path, files: dict[str, str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = failing(write(root, files), BASE, capsys=capsys)
    assert part.format(root=root) in said


def test_a_kernel_file_that_is_not_in_the_base_is_refused(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tag(root, "renamed", {"bench/others.py": KERNEL_FILE})
    said = failing(root, BASE, f"--kernel-file={root / 'bench' / 'others.py'}", capsys=capsys)
    assert "a kernel file must be in the base; bench/others.py is not in base (" in said


def test_a_base_without_the_package_is_refused(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernels = KERNEL_FILE.replace("from theirs import", "from ours import")
    write(root, {"lib/ours.py": "from torch import sin as waves_of\n", KERNELS.as_posix(): kernels,
                 "pyproject.toml": settings("lib/ours")})  # fmt: skip
    said = failing(root, BASE, capsys=capsys)
    assert "must be in both versions; base (" in said
    assert ") has no lib/ours: name it by its path, as src/theirs, or build it, by build" in said


def test_outside_of_git_and_without_a_revision_is_one_line(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "'no-such' is none of them in" in failing(root, "no-such", capsys=capsys)


def test_no_repository_is_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(root / ".git")
    assert "(fatal: not a git repository" in failing(root, BASE, capsys=capsys)


# What a version is


def test_a_version_is_all_that_git_holds_and_the_working_tree_what_it_does_not_ignore(
    root: Path, tmp_path: Path
) -> None:
    (root / "link.py").symlink_to("theirs/core.py")
    (root / "out").symlink_to("/etc/passwd")
    tag(root, "linked", {"data/numbers.txt": "1"})
    write(root, {"new.py": "", "a name.py": "", "theirs/core.pyc.py": "", "x/__pycache__/y": ""})
    (root / "data" / "numbers.txt").unlink()
    old, new = checkout(root, tmp_path / "place", "linked", None)
    assert (old.folder / "data" / "numbers.txt").read_text() == "1"
    assert (old.folder / "link.py").read_text() == (root / "link.py").read_text()
    assert not (old.folder / "out").is_symlink()
    assert not (new.folder / "data" / "numbers.txt").exists()
    assert (new.folder / "a name.py").exists()
    assert not (new.folder / "x").exists()
    assert old.paths == (old.folder,)
    for one in (old, new):
        (file,) = one.folder.glob(".mlr-kernel-files/*.py")
        assert file.resolve() == one.folder.resolve() / KERNELS


def test_a_directory_and_a_wheel_are_versions_too(root: Path, tmp_path: Path) -> None:
    plain = shutil.copytree(root, tmp_path / "plain", ignore=shutil.ignore_patterns(".git"))
    wheel = Path(shutil.make_archive(str(tmp_path / "theirs"), "zip", root)).rename(
        tmp_path / "theirs-1-py3-none-any.whl"
    )
    old, new = checkout(root, tmp_path / "place", str(wheel), str(plain))
    for one in (old, new):
        assert (one.folder / "theirs" / "core.py").is_file()
        assert len([*one.folder.glob(".mlr-kernel-files/*.py")]) == 1


@pytest.mark.skipif(needs_compiler() is not None, reason=str(needs_compiler()))
def test_what_is_built_lies_in_each_version(tmp_path: Path) -> None:
    root = in_c(tmp_path / "theirs")
    versions = checkout(root, tmp_path / "place", BASE, SLOWER)
    built = [next(one.folder.glob("src/theirs/core.*.so")).read_bytes() for one in versions]
    assert built[0] != built[1]
    assert not [*root.glob("src/theirs/*.so")]
    assert versions[0].paths == (versions[0].folder / "src",)


NEEDS_VERSION = "assert os.environ['SETUPTOOLS_SCM_PRETEND_VERSION'] == '{version}'"


@pytest.mark.parametrize("version", ["0", "1.5"])
def test_a_package_whose_version_is_in_git_is_built(
    version: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a repository, by a version that is made up, or what the user says."""
    if version != "0":
        monkeypatch.setenv("SETUPTOOLS_SCM_PRETEND_VERSION", version)
    builds = f"import os; {NEEDS_VERSION.format(version=version)}; os.mkdir('built')"
    write(root, {"pyproject.toml": settings("theirs", f'build = ["python", "-c", "{builds}"]\n')})
    for one in checkout(root, tmp_path / "place", BASE, None):
        assert (one.folder / "built").is_dir()


def test_a_package_in_a_folder_of_a_repository_is_gated_from_there(
    root: Path, tmp_path: Path
) -> None:
    """As of a revision and of the working tree: of neither is anything else copied."""
    shutil.rmtree(root / ".git")
    here = root.rename(tmp_path / "packages")
    write(tmp_path, {"other/theirs/__init__.py": ""})
    commit(tmp_path, "all")
    text = (here / "theirs" / "core.py").read_text()
    write(here, {"theirs/core.py": f"{text}# changed\n"})
    old, new = checkout(here, tmp_path / "place", "HEAD", None)
    assert (old.folder / "theirs" / "core.py").read_text() == text
    assert (new.folder / "theirs" / "core.py").read_text() != text
    for one in (old, new):
        assert not (one.folder / "other").exists()
        assert len([*one.folder.glob(".mlr-kernel-files/*.py")]) == 1


# What one process does with two versions


def specification(root: Path, place: Path, *names: str) -> Spec:
    """Return what a process is to do with some of the base, the working tree and the control."""
    base, head = checkout(root, place, BASE, None)
    shutil.copytree(base.folder, place / CONTROL, symlinks=True)
    folders = {"base": str(base.folder), HEAD: str(head.folder), CONTROL: str(place / CONTROL)}
    with forgetting_packages("shared"):
        import_worktree(read_project(root / "pyproject.toml"), root, place)
        keys = mlr.load_kernels(root / KERNELS)
        operations = {key: mlr.KERNELS[key].operation for key in keys}
        cases = [KernelCase(key, Case(name, "cpu", "float64", 64))
                 for key, name in operations.items()]  # fmt: skip
    packages = read_project(root / "pyproject.toml").packages
    own = {name: folders[name] for name in names}
    return Spec(own, cases, packages=packages, alone=len(own) == 1)


def events(
    root: Path,
    place: Path,
    measure: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *names: str,
) -> list[dict[str, Any]]:
    """Do in this process what a process of the gate does, and return what it says."""
    line = SPEC.dump_json(specification(root, place, *names)).decode()
    torch.set_default_dtype(torch.float32)  # as in a process of its own
    monkeypatch.setattr("sys.stdin", StringIO(f"{line}\n"))
    capsys.readouterr()
    jaxtyping.config.update("jaxtyping_disable", True)  # a process of the gate has no such checks
    try:
        with forgetting_packages("shared"):
            worker.work(measure)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    return [json.loads(one) for one in capsys.readouterr().out.splitlines()]


def test_both_versions_are_loaded_called_and_held_against_the_bases_oracle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a package that knows no torch; the head's looser oracle counts for nothing."""
    root = in_python(tmp_path / "theirs", "numpy")
    at(root, REFACTOR)
    kernels = (root / KERNELS).read_text().replace("return np.sin(x)", "return np.sin(x) + 1")
    write(root, {
        "theirs/core.py": "from numpy import sin\n"
        "def waves_of(x):\n    from theirs import late\n    return late.again(x)\n",
        "theirs/late.py": "from .core import sin\ndef again(x):\n    return sin(x)\n",
        KERNELS.as_posix(): kernels.replace("return waves_of(x)", "return waves_of(x) + 1"),
    })  # fmt: skip
    found = events(root, tmp_path / "p", worker.verify, monkeypatch, capsys, "base", HEAD)
    assert [one["event"] for one in found] == ["kernels", "start", "done"]
    assert found[-1]["failure"].startswith("wrong: error")


def test_two_processes_judge_the_head_by_its_own_oracle(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = events(root, tmp_path / "p", worker.verify, monkeypatch, capsys, HEAD)
    assert found[-1]["judged_by_base"] is False
    assert found[-1]["metrics"]["max_rel_error"] < 1e-15


ADDED = (
    KERNEL_FILE.partition("@operation")[2]
    .replace("class waves", "class others")
    .replace('"waves"', '"others"')
)


@pytest.mark.parametrize("names", [("base",), ("base", HEAD)])
def test_an_operation_that_the_head_adds_leaves_the_others_to_be_compared(
    names: tuple[str, ...],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    at(root, REFACTOR)
    write(root, {KERNELS.as_posix(): f"{KERNEL_FILE}\n\n@operation{ADDED}"})
    told, *cases = events(root, tmp_path / "p", worker.verify, monkeypatch, capsys, *names)
    assert told["event"] == "kernels"
    assert set(told["base"]) & {"waves.theirs", "others.theirs"} == {"waves.theirs"}
    if HEAD in names:
        assert told[HEAD]["others.theirs"] == "others"
    assert [one["case"] for one in cases] == ["waves.theirs-cpu-float64-64"] * 2
    assert "failure" not in cases[-1]


def test_cases_of_other_axes_are_refused_for_the_version_that_has_others() -> None:
    """The first one, whose operations the process has; the control is but its copy."""
    one = KernelCase("matmul", Case("gradient", "cpu", "float64", 5, 3, 2))
    folders = dict.fromkeys(("base", HEAD, CONTROL), "")
    given = json.loads(SPEC.dump_json(Spec(folders, [one])))
    given["cases"][0]["case"]["sizes"].pop()
    with pytest.raises(worker.RefusedError, match=r"^the base version does not have the cases: "):
        worker._read_spec(given)


@pytest.mark.parametrize(
    ("place", "is_refused"),
    [("", True), ("lib", True), (".venv/lib", False), ("env/lib/site-packages", False)],
)
def test_what_a_kernel_file_takes_from_the_working_tree_is_refused(
    place: str, is_refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a package that was installed to be edited there, and is not what was named."""
    folder = write(tmp_path / "base", {"src/helper.py": "",
                                       ".mlr-kernel-files/kernels.py": KERNEL_FILE})  # fmt: skip
    root = tmp_path / "root"
    write(root / place, {"theirs.py": "from torch import sin as waves_of\n"})
    monkeypatch.setattr("bench.gate.loading.ROOT", root)
    monkeypatch.syspath_prepend(str(root / place))
    if is_refused:
        with pytest.raises(ImportError, match=r"theirs came from the working tree, .*: name it in"):
            load(folder, "mlr_base", ["src"], first=True)
    else:
        load(folder, "mlr_base", ["src"], first=True)


def test_packages_that_no_kernel_imports_are_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a folder of packages that is taken for one, while that of the kernels is installed."""
    lines = KERNEL_FILE.replace("from theirs import waves_of", "from torch import sin as waves_of")
    subprocess.run(["git", "tag", "--delete", BASE], cwd=root, check=True)
    tag(root, BASE, {KERNELS.as_posix(): lines, "src/other.py": ""})
    write(root, {"pyproject.toml": settings("src")})
    *_, last = events(root, tmp_path / "p", worker.verify, monkeypatch, capsys, "base")
    assert last["event"] == "refused"
    assert "those of the base import nothing of src: name the packages" in last["reason"]


def attempted(root: Path, files: dict[str, str], *context: Any) -> str | None:
    """Return why versions with these files in the head cannot share a process, or None."""
    write(root, {name.replace("{it}", "theirs"): text for name, text in files.items()})
    try:
        *_, last = events(root, *context, "base", HEAD, CONTROL)
    except Exception as error:  # with which the process would end
        return str(error)
    return last.get("reason")


IN_CALLS = """import os
from torch import sin

def waves_of(x):
    if len(x) == 64:  # and not where the baseline is checked, while the kernel file is loaded
        {does}
    return sin(x)
"""
SHARED = {
    "sets a variable when it is called": (
        {"theirs/core.py": IN_CALLS.format(does="os.environ['THEIRS'] = __file__")},
        "calling them changes what a process shares: environment variables (THEIRS)"),
    "finds a name anew": (
        {"theirs/lazy.py": "def __getattr__(name):\n    return len\n",
         "theirs/core.py": IN_CALLS.format(does="from theirs.lazy import size")},
        "size of theirs.lazy is found anew at every import"),
    "sets a variable": ({"theirs/__init__.py": "import os\nos.environ['THEIRS'] = __file__\n"},
                        "changes what a process shares: environment variables (THEIRS)"),
    "asks by name": (
        {"theirs/core.py": "import importlib\ndef waves_of(x):\n"
                           "    return importlib.import_module('theirs.late').sin(x)\n",
         "theirs/late.py": "from torch import sin\n"},
        "several versions of theirs are loaded, and what imports it is of none"),
    "registers an operator": (
        {"theirs/__init__.py": "import torch\ntorch.library.define('theirs::waves', '() -> ()')\n"},
        "theirs::waves"),
    "is used by what is imported once": ({"theirs/__init__.py": "import shared\n",
                                          "shared.py": "from theirs.core import waves_of\n"},
                                         "shared lies beside the packages: name it in packages"),
    "hides a refusal": (
        {"theirs/core.py": "from importlib import import_module\nfrom torch import sin\n"
                           "def waves_of(x):\n"
                           "    try:\n        return import_module('theirs.late').sin(x)\n"
                           "    except ImportError:\n        return sin(x)\n"},
        "theirs was asked for, and not by an import statement"),
    "sets torch's dtype": ({"theirs/__init__.py": "import torch\ntorch.set_default_dtype("
                                                  "torch.float64)\n"}, "torch's default dtype"),
}  # fmt: skip
FROM_CORE = "from .core import waves_of\n"


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(one, marks=[pytest.mark.slow] * (number > 3))
        for number, one in enumerate(SHARED)
    ],
)
def test_what_cannot_share_a_process_is_told_apart_by_trying(
    what: str,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files, part = SHARED[what]
    files = {name: text + FROM_CORE * name.endswith("__init__.py") for name, text in files.items()}
    monkeypatch.setenv("THEIRS", "before")
    try:
        why = attempted(root, files, tmp_path / "p", worker.attempt, monkeypatch, capsys)
    finally:
        torch.set_default_dtype(torch.float32)
    assert part in str(why)


LINKED = """import subprocess
import sysconfig

subprocess.run(["gcc", "-shared", "-fPIC", "deep.c", "-o", "src/theirs/libdeep.so"], check=True)
name = "src/theirs/core" + sysconfig.get_config_var("EXT_SUFFIX")
include = sysconfig.get_path("include", "posix_prefix")
command = ["gcc", "-O2", "-shared", "-fPIC", "-I" + include, "core.c", "-o", name, "-lm"]
command += ["-Lsrc/theirs", "-ldeep", "-Wl,--no-as-needed,-rpath,$ORIGIN"]
subprocess.run(command, check=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(needs_compiler() is not None, reason=str(needs_compiler()))
@pytest.mark.parametrize("is_linked", [True, False])
def test_a_native_library_that_all_versions_would_share_is_found(
    is_linked: bool, tmp_path: Path
) -> None:
    """Of extensions that need a library of one name, all get that which was loaded first."""
    root = in_c(tmp_path / "theirs")
    if is_linked:
        at(root, BASE)
        calls = EXTENSION.replace("Py_RETURN_NONE", "if (deep() < 0) return NULL; Py_RETURN_NONE")
        deep = "int deep(void) {{ return {}; }}\n"
        subprocess.run(["git", "tag", "--delete", BASE], cwd=root, check=True)
        tag(root, BASE, {"build.py": LINKED, "core.c": f"int deep(void);\n{calls}",
                         "deep.c": deep.format(0)})  # fmt: skip
        write(root, {"deep.c": deep.format(1)})
    why = sharing_fails(specification(root, tmp_path / "p", "base", HEAD, CONTROL))
    shared = "src/theirs/libdeep.so is loaded once for all versions"
    assert why == (shared if is_linked else None)


def test_a_file_that_no_revision_has_is_said_so(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(root, {"theirs/native.py": "from torch import sin\n"})
    (root / ".gitignore").write_text("native.py\n")
    write(root, {"theirs/core.py": "from .native import sin\ndef waves_of(x): return sin(x)\n"})
    (refused,) = events(root, tmp_path / "p", worker.attempt, monkeypatch, capsys, "base", HEAD)
    assert refused["reason"].startswith("the head version cannot be used: KernelFileError: ")
    assert (
        "No module named 'theirs.native'; what git ignores, and a submodule, is in no"
        in (refused["reason"])
    )


# The installed wheel, in whole gates


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    pytest.importorskip("hatchling", reason="it builds the wheel")
    wheel = build_wheel(tmp_path_factory.mktemp("dist"))
    return Environment(tmp_path_factory.mktemp("wheel"), wheel)


def made(kind: str, place: Path) -> Path:
    if kind != "extension":
        return in_python(place, kind)
    if (reason := needs_compiler()) is not None:
        pytest.skip(reason)
    return in_c(place)


@pytest.mark.slow
@pytest.mark.parametrize(("head", "status"), [(REFACTOR, 0), (SLOWER, 1)])
@pytest.mark.parametrize("kind", ["torch", "numpy", "extension"])
def test_the_wheel_gates_a_repository(
    kind: str, head: str, status: int, environment: Environment, tmp_path: Path
) -> None:
    root = made(kind, tmp_path / "theirs")
    at(root, head)
    done = environment.run("mlr-bench", "gate", BASE, "--max-time=20m", here=root)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Both versions of theirs take turns in one process." in " ".join(done.stdout.split())
    assert (root / ".benchmarks" / "gate" / "gate.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("head", "status"), [(REFACTOR, 0), (SLOWER, 1)])
def test_the_wheel_gates_a_package_that_registers_an_operator_in_two_processes(
    head: str, status: int, environment: Environment, tmp_path: Path
) -> None:
    root = in_python(tmp_path / "theirs", "torch")
    at(root, head)
    define = "import torch\ntorch.library.define('theirs::waves', '() -> ()')\n"
    tag(root, "head", {"theirs/__init__.py": define + FROM_CORE})
    at(root, BASE)
    tag(root, "old", {"theirs/__init__.py": define + FROM_CORE})
    done = environment.run("mlr-bench", "gate", "old", "head", "--max-time=20m", here=root)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Each version of theirs has a process of its own, in turns: " in " ".join(
        done.stdout.split()
    )


@pytest.mark.slow
@pytest.mark.parametrize(("heads", "status"), [(("one", "two"), 0), (("two", "one"), 1)])
def test_the_wheel_gates_a_head_that_adds_or_removes_an_operation(
    heads: tuple[str, str], status: int, environment: Environment, tmp_path: Path
) -> None:
    root = in_python(tmp_path / "theirs", "torch")
    tag(root, "one", {"theirs/more.py": ""})
    tag(root, "two", {KERNELS.as_posix(): f"{KERNEL_FILE}\n\n@operation{ADDED}"})
    done = environment.run("mlr-bench", "gate", *heads, "--max-time=20m", here=root)
    assert done.returncode == status, done.stdout + done.stderr
    told = json.loads((root / ".benchmarks" / "gate" / "gate.json").read_text())
    assert told["added" if status == 0 else "removed"] == ["others.theirs"]
    assert [case["name"] for case in told["cases"]] == ["waves.theirs-cpu-float64-5000"]


def test_the_repository_that_the_page_shows_is_one(tmp_path: Path) -> None:
    """Its pyproject and its kernel file, as they stand there, around a package."""
    page = Path(worker.__file__).with_name("README.md").read_text(encoding="utf-8")
    shown = page.partition("## In your own repository")[2]
    config = shown.partition("```toml\n")[2].partition("```")[0]
    kernels = shown.partition("```python\n")[2].partition("```")[0]
    write(tmp_path, {
        "pyproject.toml": config.replace("src/theirs", "theirs").partition("build")[0],
        KERNELS.as_posix(): kernels,
        "theirs/__init__.py": "from numpy import cumsum as running_sum\n",
    })  # fmt: skip
    commit(tmp_path, "all")
    project = read_project(tmp_path / "pyproject.toml")
    import_worktree(project, tmp_path, tmp_path)
    assert project.kernel_files == [KERNELS.as_posix()]
    assert mlr.load_kernels(tmp_path / KERNELS) == ("running_sums.in_numpy", "running_sums.theirs")
