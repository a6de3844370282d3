"""Releases of torch: their environments, what is compared and gone on with, and what is told."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from reports import blank_figures
from run_builder import FEW_KERNELS, build_run, save

from bench.cli.main import main
from bench.cli.stored import others
from bench.common.errors import UserError
from bench.experiments.torch_releases import analysis, environments, experiment
from bench.experiments.torch_releases.analysis import CaseRecord, Comparison
from bench.experiments.torch_releases.environments import Environment, prepare, read_releases
from bench.gate import gate
from bench.gate.blocks import BASE, HEAD, KernelCase
from bench.gate.gate import Options
from bench.gate.sequential import IMPROVEMENT, INCONCLUSIVE, NO_REGRESSION, REGRESSION, Estimate
from bench.gate.verdict import CaseVerdict, Difference, Verdict
from bench.gate.versions import KERNEL_FILE_DIR, PACKAGE, Version
from mlr import (
    KERNELS,
    OPERATIONS,
    Case,
    Problem,
    check,
    check_on_other_inputs,
    get_kernel,
)

VERSIONS = {"python": "3.11.7", "numpy": "2.4.6", "torch": "2.12.0+cpu"}
ESTIMATE = Estimate(1.2, 1.1, 1.3, 14, 0.05, 14, 0, 20, 1.0)


def show(text: str) -> None:
    """Show nothing."""


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Iterator[None]:
    """Load the kernel files once, and forget them again for the tests of other modules."""
    tables: tuple[dict[str, Any], ...] = (KERNELS, OPERATIONS)
    before = [dict(table) for table in tables]
    experiment.cases()
    yield
    for table, held in zip(tables, before, strict=True):
        table.clear()
        table.update(held)


def test_a_release_has_three_numbers_and_two_are_needed() -> None:
    assert read_releases(["2.12", "2.13.1"]) == ["2.12.0", "2.13.1"]
    for wrong in (["2.12"], [], ["2.12", "2.12.0"]):
        with pytest.raises(UserError, match="two or more are needed, each once"):
            read_releases(wrong)
    for evil in ("2", "2.13 --index-url=x", "2.13.0\n", "==2.13", "2.13.0+cpu", "https://a/b"):
        with pytest.raises(UserError, match=r"written as 2\.13\.0; got "):
            read_releases(["2.12.0", evil])


@pytest.mark.parametrize("given", [["2.12.0"], ["2.12.0", "latest"], ["2.12.0", "2.12"]])
def test_wrong_input_is_one_line(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment", "torch-releases", *given, f"--out={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let no environment be made: the commands that would make them are kept here."""
    given: list[list[str]] = []

    def run(release: str, command: list[str]) -> str:
        given.append(command)
        if "venv" in command:
            folder = Path(command[-1])
            folder.mkdir()
            (folder / "pyvenv.cfg").touch()
        return json.dumps(VERSIONS | {"torch": release})

    monkeypatch.setattr(environments, "_run", run)
    monkeypatch.setattr(environments, "NEEDED_BYTES", 1)
    return given


@pytest.mark.parametrize("uv", [True, False])
def test_environments_differ_in_torch_alone_and_are_used_again(
    uv: bool, commands: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not uv:
        monkeypatch.setattr(environments, "find_spec", lambda name: None)
        monkeypatch.setattr(shutil, "which", lambda name: None)
    made = prepare(["2.12.0", "2.13.0"], tmp_path, show)
    assert [one.release for one in made] == ["2.12.0", "2.13.0"]
    assert [one.versions["torch"] for one in made] == ["2.12.0", "2.13.0"]
    assert [one.python for one in made] == [
        str(tmp_path / one / "bin" / "python") for one in ("2.12.0", "2.13.0")
    ]
    installs = [command for command in commands if "install" in command]
    for command, release in zip(installs, ("2.12.0", "2.13.0"), strict=True):
        assert ("uv" in command) == uv
        assert f"torch=={release}" in command
    first, second = (
        [word.replace(release, "") for word in command]
        for command, release in zip(installs, ("2.12.0", "2.13.0"), strict=True)
    )
    assert first == second
    texts = [(tmp_path / one / "constraints.txt").read_text() for one in ("2.12.0", "2.13.0")]
    assert texts[0] == texts[1]
    assert re.search(r"^numpy==", texts[0], re.MULTILINE)
    assert not re.search(r"^(torch|triton)=", texts[0], re.MULTILINE)
    before = len(commands)
    assert prepare(["2.13.0", "2.12.0"], tmp_path, show) == made[::-1]
    assert len(commands) == before
    (tmp_path / "2.12.0" / "installed.json").unlink()  # as of one that was not finished
    prepare(["2.12.0", "2.13.0"], tmp_path, show)
    assert len(commands) == before + before // 2
    monkeypatch.setattr(environments, "requirements", lambda release: (["torch", "more"], ""))
    prepare(["2.12.0", "2.13.0"], tmp_path, show)
    assert len(commands) == 2 * before + before // 2


def test_what_is_no_environment_of_ours_is_not_removed(
    commands: list[list[str]], tmp_path: Path
) -> None:
    (tmp_path / "2.12.0").mkdir()
    (tmp_path / "2.12.0" / "mine").touch()
    with pytest.raises(FileExistsError):  # uv and venv say so in their words
        prepare(["2.12.0"], tmp_path, show)
    assert (tmp_path / "2.12.0" / "mine").exists()


def test_too_little_room_is_said_before_anything_is_installed(
    commands: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "NEEDED_BYTES", 2**60)
    with pytest.raises(UserError, match=r"2 are to be made; .* free some") as raised:
        prepare(["2.12.0", "2.13.0"], tmp_path, show)
    assert "\n" not in str(raised.value)
    assert not commands


def test_a_release_that_cannot_be_had_is_one_line() -> None:
    fails = [sys.executable, "-c", "import sys; sys.exit('no version\\n of it')"]
    for command in (fails, ["/no/such/program"]):
        with pytest.raises(UserError, match=r"torch 2\.99\.0: .*no.*`pip index versions") as raised:
            environments._run("2.99.0", command)
        assert "\n" not in str(raised.value)


def test_an_installed_suite_says_that_it_needs_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "IS_INSTALLED", True)
    with pytest.raises(UserError, match="on a checkout"):
        prepare(["2.12.0", "2.13.0"], tmp_path, show)


def test_the_cases_are_of_kernels_that_there_are_and_each_issue_has_some() -> None:
    some, files = experiment.cases()
    assert all(file.is_file() for file in files)
    assert {one.kernel for one in some} <= {*KERNELS}
    assert len({one.name for one in some}) == len(some)
    assert {one.case.dtype for one in some} == {*analysis.CONTENT["dtypes"]}
    assert {"gradient", "step", "fit"} <= {one.case.operation for one in some}
    assert [one["number"] for one in analysis.CONTENT["issue"]] == [119000, 124838, 157407]
    for issue in analysis.CONTENT["issue"]:
        assert {*issue["kernels"]} <= {one.kernel for one in some}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_kernels_that_the_issues_are_about_are_right(dtype: str) -> None:
    for operation, sizes in {"linear_forward": (7, 5, 3), "linear_forward_5d": (1, 3, 2)}.items():
        for kernel in [one for one in KERNELS.values() if one.operation == operation]:
            problem = Problem(Case(operation, "cpu", dtype, *sizes))
            call = kernel.bind(problem)
            assert check(kernel, problem, call).reason is None
            assert check_on_other_inputs(kernel, problem, call, seed=7).reason is None


def verdict_on(cases: list[KernelCase]) -> Verdict:
    first, *others = cases
    more = Difference("peak_bytes", 1, 2, "bytes at peak: 2 instead of 1")
    work = {"operators": (9, 12), "allocations": (3, 3), "loads": (1, 2)}
    found = [CaseVerdict(first, REGRESSION, ESTIMATE, [more], work=work)]
    return Verdict([*found, *(CaseVerdict(one) for one in others)], [], [], None, False, 9.0, [{}])


def environment(release: str) -> Environment:
    return Environment(release, f"/{release}/python", VERSIONS | {"torch": f"{release}+cpu"})


def test_both_sides_are_the_same_code_in_two_interpreters(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def run_gate(cases: list[KernelCase], *gate: Any) -> Verdict:
        base, head, options, _ = gate
        assert isinstance(base, Version)
        files = [{path.relative_to(one.folder): path.read_bytes() for path in
                  one.folder.rglob("*.py")} for one in (base, head)]  # fmt: skip
        assert files[0] == files[1]
        assert {path.parts[0] for path in files[0]} == {PACKAGE, KERNEL_FILE_DIR}
        given.append(options)
        return verdict_on(cases)

    monkeypatch.setattr(experiment, "run_gate", run_gate)
    found = experiment.compare(environment("2.12.0"), environment("2.13.0"), 60.0, show)
    (options,) = given
    assert isinstance(options, Options)
    assert dict(options.pythons) == {BASE: "/2.12.0/python", HEAD: "/2.13.0/python"}
    assert Comparison.model_validate_json(found.model_dump_json()) == found
    assert found.releases == ("2.12.0", "2.13.0")
    assert found.versions["torch"] == ("2.12.0+cpu", "2.13.0+cpu")
    first, second, *_ = found.cases
    assert (first.ratio, first.low, first.high, first.processes) == (1.2, 1.1, 1.3, 20)
    assert first.work == {"operators": (9, 12), "allocations": (3, 3)}
    assert first.failures == ["bytes at peak: 2 instead of 1"]
    assert (second.timing, second.ratio, second.work) == (None, None, {})


def comparison(*releases: str, cases: tuple[CaseRecord, ...] = (), **more: Any) -> Comparison:
    usual: dict[str, Any] = {
        **{"suite": analysis.SUITE, "releases": releases, "at": "2026-11-29T00:00:00+00:00"},
        **{"commit": "0123456789abcdef", "exit_status": 0, "wall_s": 9.0, "blocks": 6},
        **{"threads": 1, "control": 1.001, "cases": cases},
        "versions": {name: (text, text) for name, text in VERSIONS.items()},
    }
    return Comparison(**usual | more)


def case(timing: str | None, ratio: float | None, **more: Any) -> CaseRecord:
    usual: dict[str, Any] = {
        **{"kernel": "autograd", "operation": "gradient", "dtype": "float64"},
        **{"sizes": {"batch": 10_000}, "timing": timing, "ratio": ratio, "processes": 6},
    }
    return CaseRecord(**usual | more)


def releases_command(folder: Path, *more: str) -> int:
    names = ("2.10.0", "2.11.0", "2.12.0", "2.13.0")
    return main(["experiment", "torch-releases", *names, f"--out={folder}", *more])


def test_what_is_stored_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared: list[list[str]] = []
    compared: list[tuple[str, str]] = []

    def prepares(releases: list[str], folder: Path, show: Any) -> list[Environment]:
        prepared.append(releases)
        return [environment(one) for one in releases]

    def compares(before: Environment, after: Environment, *_: Any) -> Comparison:
        if len(compared) == limit:
            raise KeyboardInterrupt
        compared.append((before.release, after.release))
        return comparison(before.release, after.release, cases=(case(NO_REGRESSION, 1.0),))

    monkeypatch.setattr(experiment, "prepare", prepares)
    monkeypatch.setattr(experiment, "compare", compares)
    limit = 2
    assert releases_command(tmp_path) == 130
    (path,) = (tmp_path / "torch-releases").iterdir()
    with path.open("a") as file:
        file.write('{"suite": 1, "rel')  # of one that was killed
    limit = 99
    assert releases_command(tmp_path) == 0
    assert prepared == [["2.10.0", "2.11.0", "2.12.0", "2.13.0"], ["2.12.0", "2.13.0"]]
    pairs = [("2.10.0", "2.11.0"), ("2.11.0", "2.12.0"), ("2.12.0", "2.13.0")]
    assert compared == pairs
    said = capsys.readouterr().out
    assert "2.10.0 → 2.11.0" in said
    assert str(path) in said
    assert releases_command(tmp_path) == 0
    assert compared == pairs
    assert releases_command(tmp_path, "--again") == 0
    assert compared == pairs * 2
    (stored,) = analysis.stored_in(tmp_path).values()
    assert len(stored) == 6
    assert [*analysis.newest(stored)] == pairs


@pytest.mark.parametrize(
    ("timing", "work", "said"),
    [
        (REGRESSION, {"operators": (12, 14), "allocations": (3, 3)}, "more work"),
        (REGRESSION, {"operators": (12, 12), "allocations": (3, 3)}, "the same work, slower"),
        (REGRESSION, {"operators": (12, 11)}, "less work, slower"),
        (IMPROVEMENT, {"operators": (12, 11), "allocations": (3, 4)}, "less work"),
        (IMPROVEMENT, {"operators": (12, 12)}, "the same work, faster"),
        (IMPROVEMENT, {"operators": (12, 13)}, "more work, faster"),
        (REGRESSION, {}, ""),
        (INCONCLUSIVE, {"operators": (12, 14)}, "more work"),
        (NO_REGRESSION, {"operators": (12, 11), "allocations": (3, 3)}, "less work"),
        (INCONCLUSIVE, {"operators": (12, 11), "allocations": (3, 4)}, "more and less work"),
        (INCONCLUSIVE, {"operators": (12, 12)}, ""),
    ],
)
def test_a_change_is_more_work_or_the_same(
    timing: str, work: dict[str, tuple[int, int]], said: str
) -> None:
    assert analysis.explain(timing, work) == said


def test_the_section_says_what_changed_and_what_the_issues_asked() -> None:
    slow = case(REGRESSION, 1.21, low=1.18, high=1.24, work={"operators": (12, 14)})
    fast = case(IMPROVEMENT, 0.8, kernel="torch_nn", operation="step", work={"operators": (9, 9)})
    fine = case(NO_REGRESSION, 1.0)
    unclear = case(INCONCLUSIVE, 1.04, kernel="torch_nn", work={"operators": (9, 8)})
    fails = case(NO_REGRESSION, 1.0, kernel="einsum", failures=["bytes at peak: 2 instead of 1"])
    stored = [
        comparison("2.11.0", "2.12.0", cases=(slow,)),  # which a newer one replaces
        comparison("2.12.0", "2.13.0", cases=(slow, fast, fails)),
        comparison("2.9.0", "2.11.0", cases=(fine,), suite=analysis.SUITE + 1),
        comparison("2.11.0", "2.12.0", cases=(fine, unclear)),
    ]
    subject = analysis.subject({"here": stored})
    (section,) = subject.sections({})
    assert section.title == "Releases of PyTorch on here"
    tables = [
        [[cell.strip() for cell in line.split("|")[1:-1]] for line in some.splitlines()]
        for some in re.findall(r"(?:^\|.*\n?)+", section.body, re.MULTILINE)
    ]
    overview, changed, *issues = tables
    assert [row[:7] for row in overview[2:]] == [
        ["2.11.0 → 2.12.0", "2", "0", "0", "1", "1", "0"],
        ["2.12.0 → 2.13.0", "3", "1", "1", "1", "0", "1"],
    ]
    assert [(row[1].split(", ")[1], row[2], row[4], row[-1]) for row in changed[2:]] == [
        ("torch_nn", "1.040", "9 → 8", "less work"),
        ("autograd", "1.210 (1.180–1.240)", "12 → 14", "more work"),
        ("einsum", "1.000", "–", "bytes at peak: 2 instead of 1"),
        ("torch_nn", "0.800", "9", "the same work, faster"),
    ]
    for number in (119000, 124838, 157407):
        link = f"[pytorch#{number}](https://github.com/pytorch/pytorch/issues/{number})"
        assert section.body.count(link) == 1
    assert "slower in 1, faster in 1 and not decided in 1 of 4 comparisons." in section.body
    (of_backward,) = issues  # nothing is stored of the others
    assert of_backward[0][1:] == ["2.11.0 → 2.12.0", "2.12.0 → 2.13.0"]
    assert ["1.000", "1.210 (1.180–1.240) slower"] in [row[1:] for row in of_backward[2:]]
    (answer,) = subject.answers
    assert answer.figure == "1 of 4 comparisons"
    assert answer.unit == "that could be decided found a case slower"
    assert answer.said.startswith("1 became faster; 1 of 5 could not be decided. They are of 2 ")


def test_what_a_file_says_is_data(tmp_path: Path) -> None:
    evil = "<script>|`{0}\n# [x](http://y)"
    one = case(REGRESSION, 1.2, kernel=evil, operation=evil, dtype=evil, failures=[evil],
               sizes={evil: 3})  # fmt: skip
    stored = comparison("2.12.0", "2.13.0", cases=(one,), commit=evil,
                        versions={evil: (evil, evil), "torch": (evil, evil)})  # fmt: skip
    subject = analysis.subject({evil: [stored]})
    (section,) = subject.sections({})
    for text in (section.body, subject.answers[0].said, subject.answers[0].more):
        assert "<script" not in text
        assert "[x](http:" not in text
    path = tmp_path / "torch-releases" / "here.jsonl"
    path.parent.mkdir()
    for line in ("nonsense", stored.model_dump_json().replace('"2.13.0"', '"{evil}"', 1)):
        path.write_text(f"{line}\n")
        with pytest.raises(UserError, match="comparisons of releases are one JSON object a line"):
            analysis.stored_in(tmp_path)
    path.write_text(f"{stored.model_dump_json()}\n")
    told = [one for one in others(tmp_path, {}) if getattr(one, "answers", None)]
    assert len(told) == 1


def test_nothing_is_told_where_nothing_is_stored(tmp_path: Path) -> None:
    assert analysis.stored_in(tmp_path) == {}
    subject = analysis.subject({"here": [comparison("2.12.0", "2.13.0")]})
    assert not [*subject.sections({}), *subject.answers]


def test_the_report_has_the_answer_and_its_page_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank_figures(monkeypatch)
    save(build_run(["gradient"], [(33, 6, 3)], kernels=FEW_KERNELS), tmp_path / "runs" / "a.json")
    stored = comparison("2.12.0", "2.13.0", cases=(case(REGRESSION, 1.21),))
    (tmp_path / "torch-releases").mkdir()
    (tmp_path / "torch-releases" / "here.jsonl").write_text(f"{stored.model_dump_json()}\n")
    assert main(["report", f"--out={tmp_path}"]) == 0
    text = (tmp_path / "report" / "REPORT.md").read_text(encoding="utf-8")
    assert "**Does a newer PyTorch make it slower?** 1 of 1 comparison that could" in text
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "Releases of PyTorch on here" in page
    assert '<a href="https://github.com/pytorch/pytorch/issues/157407">pytorch#157407</a>' in page


@pytest.mark.slow
def test_one_release_against_itself_goes_the_whole_way(monkeypatch: pytest.MonkeyPatch) -> None:
    some, files = experiment.cases()
    small = [one for one in some if one.kernel.endswith(("matmul", "flattened", "product_and_sum"))]
    monkeypatch.setattr(experiment, "cases", lambda: (small[:6], files))
    ticks = count()
    monkeypatch.setattr(gate, "wall_clock", lambda: float(next(ticks)))  # it ends after a block
    own = Environment("2.13.0", sys.executable, VERSIONS)
    found = experiment.compare(own, own, 1.0, show)
    assert len(found.cases) == 6
    assert all(one.work["operators"] for one in found.cases)
    assert found.blocks == 1
    assert all(one.ratio for one in found.cases)
    assert get_kernel("matmul").key == found.cases[0].kernel
