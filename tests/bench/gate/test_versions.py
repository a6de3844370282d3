"""Where the two versions of a gate come from, and how both live in one process."""

import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from paths import ROOT
from versions import commit, copy_package, forgetting_versions

import mlr
from bench.common.errors import UserError
from bench.gate.loading import load, load_kernels
from bench.gate.versions import (
    KERNEL_FILE_DIR,
    Version,
    checkout_version,
    checkout_versions,
    kernel_file_notes,
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout of two commits: without the package, and with it."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "README").write_text("nothing yet")
    commit(root, "empty")
    commit(copy_package(root), "package")
    return root


def test_a_revision_is_taken_as_it_was_committed(repository: Path, tmp_path: Path) -> None:
    (repository / "mlr" / "metrics.py").write_text("broken after the commit")
    version = checkout_version("HEAD", tmp_path / "old", repository)
    assert version.commit is not None
    assert len(version.commit) == 40
    assert "def mape" in (version.folder / "mlr" / "metrics.py").read_text()


def refusal(text: str | Path, folder: Path, root: Path) -> str:
    """Return the one line that a version is refused with."""
    with pytest.raises(UserError) as error:
        checkout_version(str(text), folder, root)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("text", ["no-such-branch", "--help", "HEAD:mlr", "; rm -rf x", ""])
def test_what_is_no_revision_is_one_clear_line(repository: Path, tmp_path: Path, text: str) -> None:
    said = refusal(text, tmp_path / "old", repository)
    assert said.startswith(f"a version is a git revision, a wheel or a directory; {text!r} is none")
    assert "`git branch --all`" in said
    assert "`git fetch --unshallow`" in said


def test_a_side_without_the_package_is_refused(repository: Path, tmp_path: Path) -> None:
    """A revision, another repository, and the wheel of another package."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "README").write_text("a package of another name")
    commit(other, "first")
    wheel = tmp_path / "other-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other/__init__.py", "")
    for number, text in enumerate(("HEAD~1", other, wheel)):
        said = refusal(text, tmp_path / str(number), repository)
        assert said.startswith(f"{str(text)!r} has no mlr/ package; the gate compares two versions")
        assert f"name your own packages in {repository / 'pyproject.toml'}, [tool.mlr-" in said


def test_what_is_there_and_no_side_is_said_to_be_there(repository: Path, tmp_path: Path) -> None:
    said = refusal(repository / "README", tmp_path / "a", repository)
    assert "README' is a file, and no wheel" in said
    said = refusal(tmp_path / "none.whl", tmp_path / "b", repository)
    assert said.endswith("none.whl' does not exist")
    said = refusal("HEAD", tmp_path / "c", tmp_path)
    assert f"'HEAD' is none of them in {tmp_path} (fatal: not a git repository" in said


def test_without_git_a_directory_still_does(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="git itself cannot be run"):
        checkout_version("HEAD", tmp_path / "old", repository)
    assert checkout_version(str(repository), tmp_path / "new", tmp_path).commit is None


def test_a_wheel_is_unpacked_and_nothing_but_its_package(tmp_path: Path) -> None:
    wheel = tmp_path / "mlr-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in (ROOT / "mlr").rglob("*.py"):
            archive.write(path, path.relative_to(ROOT))
        archive.writestr("../escaped.py", "")
        archive.writestr("mlr/../../escaped.py", "")
    version = checkout_version(str(wheel), tmp_path / "a" / "b", ROOT)
    assert (version.folder / "mlr" / "registry.py").is_file()
    assert not list(tmp_path.glob("escaped.py")) + list((tmp_path / "a").glob("escaped.py"))
    wheel.write_bytes(b"no zip")
    with pytest.raises(UserError, match="a wheel must be a readable zip file"):
        checkout_version(str(wheel), tmp_path / "c", ROOT)


def test_two_versions_live_beside_the_harness_own(tmp_path: Path) -> None:
    before = dict(mlr.KERNELS)
    copy_package(tmp_path)
    text = (tmp_path / "mlr" / "gradients.py").read_text()
    (tmp_path / "mlr" / "gradients.py").write_text(text.replace("def outer_sum(", "def other("))
    with forgetting_versions():
        old, new = load(ROOT, "mlr_test_old"), load(tmp_path, "mlr_test_new")
        assert old.KERNELS["einsum"] is not new.KERNELS["einsum"]
        assert "outer_sum" in old.KERNELS
        assert "outer_sum" not in new.KERNELS
        assert before == mlr.KERNELS


# What a version may call otherwise than the harness does.
OTHER_NAMES = {
    "set_parameter_accessors": "keep_elsewhere",
    "share_inputs": "twin",
    "resample": "redraw",
}
APART = """

@kernel(operation="step", flops=lambda m, n, o, s: 1, workspace=lambda m, n, o, s: 0)
def apart(problem):
    weight, bias = problem.weight.clone(), problem.bias.clone()
    problem.keep_elsewhere(
        lambda: Gradient(weight, bias),
        lambda start: (weight.copy_(start.weight), bias.copy_(start.bias)),
    )
    def step():
        delta = (problem.x @ weight + bias - problem.y) * (2 * problem.lr / problem.y.numel())
        weight.sub_(problem.x.T @ delta)
        bias.sub_(delta.sum(0))
    return step
"""


def test_a_version_of_other_names_is_bound_like_the_harness_own(tmp_path: Path) -> None:
    """Its kernels get a problem of their own version, on the tensors of the harness's."""
    copy_package(tmp_path)
    for path in (tmp_path / "mlr").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for ours, theirs in OTHER_NAMES.items():
            text = re.sub(rf"\b{ours}\b", theirs, text)
        path.write_text(text + APART * (path.name == "steps.py"), encoding="utf-8")
    with forgetting_versions():
        kernels = load_kernels(tmp_path, "mlr_test_other")
    allocate = [kernels[name].allocates_outside_torch for name in ("matmul", "jax_jit")]
    assert allocate == [False, True]
    for name, operation in (
        ("matmul", "gradient"),
        ("auto", "gradient"),
        ("fused_addmm", "step"),
        ("torch_nn", "step"),
        ("apart", "step"),
        ("LinearRegression", "fit"),
    ):
        case = mlr.Case(operation, "cpu", "float64", 33, 6, 3)
        original = mlr.get_kernel("torch_nn" if name == "apart" else name)
        assert kernels[name].operation == operation
        assert kernels[name].unsupported(case) is None
        problem = mlr.Problem(case)
        call = kernels[name].bind(problem)
        for seed in (1, 2):
            assert mlr.check(original, problem, call).reason is None, name
            problem.resample(seed)


MINE = """
import mlr
from mlr import Gradient, kernel
@kernel(operation="gradient", flops=lambda m, n, o, s: 1, bytes_moved=lambda m, n, o, s: 1,
        workspace=lambda m, n, o, s: 0)
def mine(x, delta):
    return Gradient(VERSION * x.T @ delta, delta.sum(0))
SEEN = mlr
"""


def kernel_file_texts(version: Version) -> list[str]:
    return [path.read_text() for path in (version.folder / KERNEL_FILE_DIR).glob("*")]


def both(base: str | None, head: str | None, path: Path, root: Path) -> tuple[Version, Version]:
    return checkout_versions(base, head, root.parent, root, path)


def test_each_side_brings_its_own_version_of_a_kernel_file(repository: Path) -> None:
    path = repository / "my" / "kernels.py"
    path.parent.mkdir()
    path.write_text(MINE.replace("VERSION", "1"))
    commit(repository, "mine")
    path.write_text(MINE.replace("VERSION", "2"))
    old, new = both("HEAD", None, path, repository)
    assert "(1 *" in kernel_file_texts(old)[0]
    assert "(2 *" in kernel_file_texts(new)[0]
    assert kernel_file_notes(old, new) == []


def test_a_kernel_file_that_is_new_is_not_held_against_itself(repository: Path) -> None:
    (repository / "mine.py").write_text(MINE)
    old, new = both("HEAD", None, repository / "mine.py", repository)
    assert (kernel_file_texts(old), len(kernel_file_texts(new))) == ([], 1)
    (said,) = kernel_file_notes(old, new)
    assert said.startswith("mine.py is not in HEAD (")


def test_two_directories_bring_two_versions_and_a_stranger_the_same(
    repository: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (copy_package(tmp_path / name) / "mine.py").write_text(name)
    versions = both(
        str(tmp_path / "one"), str(tmp_path / "two"), tmp_path / "two/mine.py", repository
    )
    assert [kernel_file_texts(version) for version in versions] == [["one"], ["two"]]
    assert kernel_file_notes(*versions) == []
    (tmp_path / "mine.py").write_text("neither")
    shutil.rmtree(tmp_path / "base")
    shutil.rmtree(tmp_path / "head")
    versions = both("HEAD", str(tmp_path / "two"), tmp_path / "mine.py", repository)
    assert [kernel_file_texts(version) for version in versions] == [["neither"], ["neither"]]
    (said,) = kernel_file_notes(*versions)
    assert f"Both versions have the same kernel file, {tmp_path / 'mine.py'}: a change" in said


def test_a_users_kernels_join_the_version_that_imports_them(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a file, and those of an installed package."""
    (tmp_path / "mine.py").write_text(MINE.replace("VERSION", "1"))
    packages = tmp_path / "packages"
    (packages / "offering-1.dist-info").mkdir(parents=True)
    (packages / "offering-1.dist-info" / "METADATA").write_text("Name: offering\nVersion: 1\n")
    (packages / "offering-1.dist-info" / "entry_points.txt").write_text(
        "[mlr.kernels]\noffering = offering\n"
    )
    text = MINE.replace("def mine", "def offered").replace("VERSION", "1")
    (packages / "offering.py").write_text(text)
    monkeypatch.syspath_prepend(str(packages))
    before = dict(mlr.KERNELS)
    versions = both("HEAD", None, tmp_path / "mine.py", repository)
    with forgetting_versions():
        for version, name in zip(versions, ("mlr_test_old", "mlr_test_new"), strict=True):
            module = load(version.folder, name)
            for kernel in ("mine", "offered"):
                assert module.KERNELS[kernel].function.__globals__["SEEN"] is module
        assert sys.modules["mlr"] is mlr
        assert "offering" not in sys.modules
        assert before == mlr.KERNELS
