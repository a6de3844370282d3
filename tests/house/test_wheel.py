"""The wheel, in an environment of its own: what it holds, what it does, and where it writes.

That environment sees the packages of this one, but not the checkout: no network is needed.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import Environment, build_wheel
from paths import ROOT

from bench.store.runs import load_run

pytest.importorskip("hatchling", reason="it builds the wheel")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INSTALLED = re.compile(rf"{re.escape(PROJECT['version'])}-[0-9a-f]{{8}}")
HEAVY = {"torch", "pandas", "matplotlib", "rich", "pydantic", "scipy", "numpy", "mlr", "pytest"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Iterator[Environment]:
    made = Environment(tmp_path_factory.mktemp("wheel"), wheel)
    yield made
    assert made.foreign() == set()
    assert made.installed() == made.before


def test_it_holds_both_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    expected = {"mlr_bench/pyproject.toml"}
    for folder, name in (("mlr", "mlr"), ("bench", "mlr_bench")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and not {"__pycache__", "editable"} & {*path.parts}:
                expected.add(f"{name}/{path.relative_to(ROOT / folder).as_posix()}")
    assert {one for one in names if ".dist-info/" not in one} == expected
    suffixes = {Path(name).suffix for name in names}
    assert suffixes >= {".toml", ".j2", ".js", ".css", ".html", ".mplstyle"}


def test_it_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    texts = {name.rpartition("/")[2]: archive.read(name).decode() for name in archive.namelist()
             if ".dist-info/" in name}  # fmt: skip
    assert texts["entry_points.txt"] == "[console_scripts]\nmlr-bench = mlr_bench:main\n"
    assert f"\nVersion: {PROJECT['version']}\n" in texts["METADATA"]
    assert "\nRequires-Python: >=3.11\n" in texts["METADATA"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {PROJECT['version']}\n" in citation
    for document in ("README.md", "bench/README.md"):
        named = re.findall(r"mlr_bench-[^ ]+\.whl", (ROOT / document).read_text(encoding="utf-8"))
        assert set(named) == {wheel.name}


def test_an_editable_install_has_the_command_and_the_names_of_the_checkout(tmp_path: Path) -> None:
    code = "import sys, hatchling.build as one; one.build_editable(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    (editable,) = tmp_path.glob("*.whl")
    done = Environment(tmp_path, editable).run("mlr-bench", "--help")
    assert done.stdout.startswith("usage: python -m bench ")


def test_its_help_imports_nothing_heavy(environment: Environment) -> None:
    code = (
        "import sys, mlr_bench; sys.argv = ['mlr-bench', '--help']\n"
        f"try: mlr_bench.main()\nfinally: print('imported:', {HEAVY} & sys.modules.keys())"
    )
    done = environment.run(str(environment.python), "-c", code)
    assert done.stdout.startswith("usage: mlr-bench ")
    assert done.stdout.endswith("imported: set()\n")
    commands = {path.stem.replace("_", "-") for path in (ROOT / "bench/cli/commands").glob("[!_]*")}
    assert set(re.findall(r"^    ([a-z-]+)", done.stdout, re.MULTILINE)) == commands


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_its_command_starts_on_every_python(
    version: str, environment: Environment, tmp_path: Path
) -> None:
    """Of what is needed for that nothing but the wheel is there."""
    found = [*Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}")]
    found += map(Path, filter(None, [shutil.which(f"python{version}")]))
    if not found:
        pytest.skip(f"no Python {version} on this machine")
    for folder in ("mlr", "mlr_bench"):
        shutil.copytree(
            environment.packages / folder, tmp_path / folder,
            ignore=shutil.ignore_patterns("__pycache__"),
        )  # fmt: skip
    isolated = (str(found[0]), "-S", "-B", "-c")
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import mlr_bench; mlr_bench.main()"
    done = environment.run(*isolated, start)
    assert done.returncode == 2
    assert "required: COMMAND" in done.stderr
    compiled = environment.run(str(found[0]), "-m", "compileall", "-q", str(tmp_path))
    assert compiled.returncode == 0, compiled.stdout


def test_it_looks_for_results_where_it_is_started(environment: Environment) -> None:
    done = environment.run("mlr-bench", "report")
    assert done.returncode == 2
    results = environment.here / "results"
    assert (
        f"{results / 'runs'} has none; measure with `mlr-bench run --out {results}`" in done.stderr
    )
    assert done.stderr.count("\n") == 1


NAME = "from mlr_bench.common.provenance import commit_info; print(commit_info()['id'])"


def test_it_names_its_version_and_no_commit_of_where_it_is_started(
    environment: Environment, tmp_path: Path
) -> None:
    """Also in a checkout of mlr, whose code it does not run; and not once its own was changed."""

    def told() -> str:
        done = environment.run(str(environment.python), "-P", "-c", NAME)
        return done.stdout.strip()

    first = told()
    assert INSTALLED.fullmatch(first)
    subprocess.run(["git", "init", "-q", environment.here], check=True)
    shutil.copytree(ROOT / "mlr", environment.here / "mlr")
    try:
        assert told() == first
    finally:
        shutil.rmtree(environment.here / ".git")
        shutil.rmtree(environment.here / "mlr")
    changed = tmp_path / "changed"
    for name in ("mlr", "mlr_bench"):
        shutil.copytree(environment.packages / name, changed / name)
    (changed / "mlr" / "steps.py").open("a").write("\n")
    done = environment.run(str(environment.python), "-c", NAME, PYTHONPATH=str(changed))
    assert INSTALLED.fullmatch(done.stdout.strip())
    assert done.stdout.strip() != first


SMALL = ("--operation=gradient", "--kernel=matmul,autograd", "--dtype=float64", "--batch=33",
         "--features=6", "--outputs=3")  # fmt: skip


REPLACING = """
import mlr, mlr_bench.measure.timing as timing

timing.repeats_of = lambda seconds, batch_s: 1

@mlr.kernel(operation="gradient", flops=lambda m, n, o, s: 1, workspace=lambda m, n, o, s: 0)
def mine(x, delta):
    return mlr.Gradient(x.T @ delta, delta.sum(0))
"""


@pytest.mark.slow
def test_it_measures_reports_and_gates_in_an_empty_folder(
    environment: Environment, wheel: Path
) -> None:
    here, run = environment.here, environment.run
    # What the folder has by the names of what is measured is not measured.
    for name in ("mlr", "mlr_bench", "torch", "pytest"):
        (here / f"{name}.py").write_text("raise SystemExit('not this one')\n")
    for command in (
        ("run", "--grid=smoke", "--processes=1", *SMALL),
        ("machine",),
        ("report",),
        ("plan", *SMALL),
        ("pytest", *SMALL, "--benchmark-columns=min", "--benchmark-sort=name"),
    ):
        done = run("mlr-bench", *command)
        assert done.returncode == 0, done.stdout + done.stderr
        if command[0] == "report":
            assert {one.name for one in here.iterdir() if one.suffix != ".py"} == {"results"}
        assert "python -m bench" not in done.stdout + done.stderr
    assert "speedup ±95 %" in done.stdout
    (path,) = (here / "results" / "runs").rglob("*.json")
    stored = load_run(path)
    assert INSTALLED.fullmatch(stored.commit_info.id)
    assert {one.fullname for one in stored.benchmarks} == {
        f"bench/bench_kernels.py::bench_kernel[gradient-{name}-cpu-float64-33x6x3]"
        for name in ("matmul", "autograd")
    }
    assert json.loads(path.read_text())["settings"]["grid"] == "smoke"
    text = (here / "results" / "report" / "REPORT.md").read_text(encoding="utf-8")
    assert stored.commit_info.id[:10] in text
    done = run("mlr-bench", "submit", str(path))
    assert done.returncode == 1
    assert f"its commit must be one of this repository; {stored.commit_info.id}" in done.stdout
    (here / "mine.py").write_text(REPLACING)
    done = run("mlr-bench", "plan", *SMALL, "--kernel-file=mine.py")
    assert done.returncode == 2
    assert "mine.py replaces mlr_bench.measure.timing.repeats_of, which is not" in done.stderr
    (here / "mine.py").unlink()
    done = run("mlr-bench", "gate", "main", "--batch=33")
    assert done.returncode == 2
    assert "'main' is none of them" in done.stderr
    done = run("mlr-bench", "gate", str(wheel), "--batch=33")
    assert done.returncode == 2
    assert "has no mlr/ package" in done.stderr
    done = run("mlr-bench", "gate", str(wheel), str(wheel), *SMALL, "--max-time=20s")
    assert "A/A control" in done.stdout, done.stdout + done.stderr
    written = {one.name for one in here.iterdir()} - {"__pycache__"}
    assert written == {"results", ".benchmarks", "mlr.py", "mlr_bench.py", "torch.py", "pytest.py"}
    assert not (here / "results" / "unfinished").exists()


def test_without_torch_it_shows_and_says_what_it_cannot(
    environment: Environment, tmp_path: Path
) -> None:
    without = tmp_path / "without"
    for name in ("torch", "sklearn", "llvmlite", "pytest", "psutil"):
        (without / name).mkdir(parents=True)
        text = f'raise ModuleNotFoundError("No module named {name}", name="{name}")'
        (without / name / "__init__.py").write_text(text)
    runs = sorted((ROOT / "results" / "runs").rglob("*-smoke*.json")) or sorted(
        (ROOT / "results" / "runs").rglob("*.json"), key=lambda path: path.stat().st_size
    )
    shown = ("report", str(runs[0]), f"--out={tmp_path / 'shown'}", "--format=md,csv")
    done = environment.run("mlr-bench", *shown, PYTHONPATH=str(without))
    assert done.returncode == 0, done.stderr
    done = environment.run("mlr-bench", "run", PYTHONPATH=str(without))
    assert done.returncode == 2
    assert done.stderr.startswith("error: the command run needs a package that cannot be imported")
    assert done.stderr.count("\n") == 1


PAIR = """
def test_not_slower(paired):
    paired(sorted, sorted, inputs=lambda: [3, 1, 2])
"""


@pytest.mark.slow
def test_paired_is_a_plugin_of_the_wheel(environment: Environment) -> None:
    """In a folder of anybody's, that knows nothing of torch.

    Of every plugin pytest keeps a compiled copy beside its code, which is left out here.
    """
    bare = {"PYTHONDONTWRITEBYTECODE": "1"}
    (environment.here / "test_pair.py").write_text(PAIR)
    plain = (str(environment.python), "-m", "pytest", "-q", "-p", "no:cacheprovider")
    command = (*plain, "-p", "mlr_bench.plugin", "test_pair.py")
    assert "1 passed" in environment.run(*command, **bare).stdout
    done = environment.run(*command, "--paired", "--paired-max-time=0.001s", **bare)
    assert "1 inconclusive" in done.stdout, done.stdout + done.stderr
    assert "try --paired-max-time 1m" in done.stdout
    (environment.here / "test_pair.py").unlink()
