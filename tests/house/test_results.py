"""What the checkout shows is what its stored runs say."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT
from reports import blank_figures, links
from run_builder import FEW_KERNELS, build_run, save
from stored_runs import PATHS, stored_frame, stored_run

from bench.cli.stored import others, stored_trials
from bench.report.build import with_history, write_report
from bench.report.publishing import MAX_FIGURES, update_readme
from bench.report.subject import Beside
from bench.store.runs import load_heads, read_run
from bench.store.schema import Head

RESULTS = ROOT / "results"
MOST_BYTES = 2_000_000
MOST_BYTES_IN_GIT = 5_000_000
MOST_LINES = 300  # of REPORT.md


def runs_named_in(text: Path) -> list[Path]:
    """The stored runs that a document shows; others were taken since, or stand in its history."""
    names = set(re.findall(r"\brun[ |]+(\d{8}T\d{6}Z-\w+-\w+)", text.read_text(encoding="utf-8")))
    found = [path for path in PATHS if path.stem in names]
    assert {path.stem for path in found} == names != set()
    return found


@pytest.fixture(scope="module", autouse=True)
def _read_once() -> Iterator[None]:
    """Let the report and the README share what is read of a stored run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.store.runs.load_run", stored_run)
        yield


def beside_the_runs() -> list[Beside]:
    return others(RESULTS, stored_trials(RESULTS))


@pytest.fixture(scope="module")
def runs() -> list[Path]:
    """Those of the report, of which the README shows a part."""
    shown = runs_named_in(RESULTS / "REPORT.md")
    assert {*runs_named_in(ROOT / "README.md")} <= {*shown}
    return shown


def known_by(runs: list[Path]) -> dict[Path, Head]:
    """Those that were stored when some were shown; of later ones the next report tells."""
    heads = load_heads(PATHS)
    newest = max(heads[path].datetime for path in runs)
    return {path: head for path, head in heads.items() if head.datetime <= newest}


def test_the_readme_is_not_stale(runs: list[Path], tmp_path: Path) -> None:
    known = known_by(runs)
    frame, _ = with_history({path: read_run(path, known) for path in runs}, known)
    fresh = Path(shutil.copy(ROOT / "README.md", tmp_path))
    update_readme(fresh, frame, others=beside_the_runs())
    assert (ROOT / "README.md").read_text("utf-8") == fresh.read_text("utf-8")


def test_the_report_is_not_stale(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank_figures(monkeypatch)  # which of them there are is compared, not what they show
    known = known_by(runs)
    write_report(runs, tmp_path / "new", beside_the_runs(), heads=known, history=True)
    fresh, shown = (folder / "REPORT.md" for folder in (tmp_path / "new", RESULTS))
    assert shown.read_text(encoding="utf-8") == fresh.read_text(encoding="utf-8")
    figures = [sorted(path.name for path in (folder / "figures").iterdir())
               for folder in (tmp_path / "new", RESULTS)]  # fmt: skip
    assert figures[0] == figures[1]
    assert len(figures[1]) == MAX_FIGURES
    assert len(shown.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    assert {f"figures/{name}" for name in figures[1]} == set(links(shown.read_text("utf-8")))


def test_what_is_published_is_linked_from_where_it_lies() -> None:
    for text in (ROOT / "README.md", RESULTS / "REPORT.md"):
        figures = [link for link in links(text.read_text("utf-8")) if link.endswith(".png")]
        assert figures
        for link in figures:
            assert (text.parent / link).is_file(), link
            assert (text.parent / link).parent == RESULTS / "figures"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="asks git, and this is no checkout")
def test_nothing_derived_is_tracked_but_what_is_published() -> None:
    listed = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True,
                            text=True, check=True).stdout.split()  # fmt: skip
    stored = ("runs", "gate", "paired", "convergence", "scaling", "repeatability", "independent",
              "torch-releases")  # fmt: skip
    derived = [path for path in listed if path.split("/")[1] not in stored]
    figures = [f"results/figures/{path.name}" for path in (RESULTS / "figures").iterdir()]
    assert sorted(derived) == sorted(["results/README.md", "results/REPORT.md", *figures])


def test_pytest_benchmark_reads_every_stored_run(runs: list[Path]) -> None:
    table = "--columns=median"  # one line a benchmark: it is slow to write
    command = [sys.executable, "-m", "pytest_benchmark", "compare", table, *map(str, runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "bench_kernel[gradient-matmul-cpu-float64-33x6x3]" in done.stdout


# What is installed for measuring, and not by the dependencies of a report.
NOT_OF_A_REPORT = (
    *("torch", "mlr", "sklearn", "llvmlite", "jaxtyping", "pytest", "pytest_benchmark"),
    *("psutil", "threadpoolctl", "filelock"),
)


def test_a_report_needs_no_torch_and_nothing_else_that_measures(tmp_path: Path) -> None:
    sizes = ((33, 6, 3), (100, 6, 3))
    made = build_run(["gradient", "step"], sizes, kernels=FEW_KERNELS)
    run = save(made, tmp_path / "run.json")
    # A finder that refuses them, as where they are not installed; SciPy asks sys.modules for torch.
    without = (
        "import sys, importlib.abc\n"
        "class Refuse(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name.split('.')[0] in {NOT_OF_A_REPORT}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
    )
    report = f"sys.argv = ['bench', 'report', {str(run)!r}, '--out', {str(tmp_path)!r}]; "
    script = without + report + "import runpy; runpy.run_module('bench', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "REPORT.md").exists()


def test_what_is_stored_is_valid_and_small() -> None:
    for path in PATHS:
        assert path.parent.name == stored_run(path).machine.slug, path
    trials = [path for name in ("gate", "paired") for path in (RESULTS / name).glob("*.jsonl")]
    for path in [*PATHS, *trials]:
        assert path.stat().st_size < MOST_BYTES, path


def test_quick_runs_show_the_jacobians_price_and_its_limit() -> None:
    """It takes as many bytes as its formula says, a hundred times those of the product."""
    frame = stored_frame()
    frame = frame[frame["run"].str.contains("-quick")]
    jacobian = frame[(frame["kernel"] == "kron_einsum") & (frame["dtype"] == "float64")]
    middle = jacobian[(jacobian["case"] == "100x64x32") & (jacobian["status"] == "ok")]
    product = frame[frame["kernel"] == "matmul"].merge(middle, on=["run", "machine", "case"])
    assert len(product) == len(middle) > 0
    assert (middle["peak_bytes"] == middle["predicted_peak_bytes"]).all()
    assert (product["peak_bytes_y"] > 100 * product["peak_bytes_x"]).all()
    wide = jacobian[jacobian["case"] == "10000x256x64"]
    assert set(wide["status"]) <= {"infeasible", "ok"}
    assert wide["reason"].notna().any()


# The last commit that changed stored files: it converted them to schema 2.
CONVERTED = "1422dd0"
# What was removed since, once and for all, and stands in results/README.md.
REMOVED = {
    *("20261123T063952Z-830d9071-quick", "20261123T134830Z-c06ae7dd-quick"),
    *("20261123T214934Z-807f2616-tall", "20261124T115945Z-cdd894bb-quick"),
    *("20261124T122004Z-cdd894bb-tall", "20261124T132141Z-060a9554-quick"),
    "20261124T122009Z-cdd894bb-strong",
    *("20261129T150239Z-1d130e13-quick", "20261129T152853Z-1d130e13-quick"),
    *("20261129T162716Z-11e279c5-quick", "20261124T130851Z-cdd894bb-wide"),
    *("20261129T211835Z-e8afca86-quick", "20261130T065142Z-1e0a1fda-wide"),
    *("20261130T071151Z-1e0a1fda-tall", "20261130T025215Z-2830505c-quick"),
    *("20261130T104438Z-e2b9f5f7-tall", "20261130T112225Z-e2b9f5f7-wide"),
    *("20261130T132429Z-8023c083-quick", "20261130T135743Z-8023c083-trainings"),
    *("20261130T134646Z-8023c083-tall", "20261130T141848Z-8023c083-wide"),
    *("20261130T170925Z-018b8082-quick", "20261130T204406Z-dadb22e9-wide"),
    "20261129T212803Z-e8afca86-trainings",
}
FOLDERS = [f"results/{name}" for name in ("runs", "scaling", "convergence")]


def git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="asks git, and this is no checkout")
def test_stored_files_are_only_ever_added() -> None:
    probe = ["git", "cat-file", "-e", CONVERTED]
    if subprocess.run(probe, cwd=ROOT, check=False, capture_output=True).returncode:
        pytest.skip(f"a shallow clone, without commit {CONVERTED}")
    since = ["--name-status", "--no-renames", "--diff-filter=a", CONVERTED, "--", *FOLDERS]
    changed = dict(reversed(line.split("\t")) for line in git("diff", *since).splitlines())
    assert set(changed.values()) <= {"D"}
    assert {Path(name).stem for name in changed} <= REMOVED
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    deleted = ["--format=", "--name-only", "--no-renames", "--diff-filter=D"]
    later = git("log", *deleted, f"{CONVERTED}..HEAD", "--", *FOLDERS).split()
    assert {Path(name).stem for name in later} <= REMOVED  # also of what was added since
    gone = git("log", *deleted, CONVERTED, "--", *FOLDERS).split()
    assert gone
    unsaid = [name for name in gone if name.startswith("results/") and Path(name).stem not in text]
    assert unsaid == []
    assert [name for name in REMOVED if f"`{name}`" not in text] == []
    assert not [path for path in RESULTS.rglob("*.json") if path.stem in REMOVED]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="asks git, and this is no checkout")
def test_the_results_in_git_have_at_most_five_megabytes() -> None:
    sizes = {name: (ROOT / name).stat().st_size for name in git("ls-files", "results").splitlines()}
    assert 0 < sum(sizes.values()) <= MOST_BYTES_IN_GIT, sizes
