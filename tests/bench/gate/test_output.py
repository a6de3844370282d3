"""What a verdict says: as an exit status, a table, JSON, JUnit, on GitHub."""

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.gate.blocks import KernelCase
from bench.gate.output import (
    COLUMNS,
    as_comment,
    as_json,
    as_junit,
    headline,
    print_verdict,
    write_verdict,
)
from bench.gate.sequential import INCONCLUSIVE, NO_REGRESSION, REGRESSION, Estimate, ExitStatus
from bench.gate.verdict import CaseVerdict, Difference, Verdict
from bench.gate.versions import Version
from mlr import Case

VERSION = Version("a|b<script>", Path(), None, None)
CASES = [
    KernelCase(kernel, Case("gradient", "cpu", "float64", 100, 64, 32))
    for kernel in ("matmul", "einsum", "outer_sum", "autograd")
]
SLOW = REGRESSION, Estimate(1.1, 1.08, 1.12, 14, 0.05, 14, 0, 14, 1.0)
OPEN = INCONCLUSIVE, Estimate(1.01, None, None, 3, 0.05, 1, 1, 3, 0.77)
FINE = NO_REGRESSION, Estimate(1.0, 0.99, 1.01, 6, 0.05, 0, 0, 6, 0.32)
PASSED = "no regression of 5 % or more (typical process)"
MORE = Difference("peak_bytes", 1, 2, "bytes at peak: 2 instead of 1")
WRONG = Difference("status", "ok", "wrong: error 3", "wrong: error 3")


def verdict_on(*cases: CaseVerdict) -> Verdict:
    blocks = [
        {one.benchmark.name: {"log_ratio": 0.1, "head_s": 2e-5 + n * 1e-7, "base_s": 1.8e-5}
         for one in cases}
        for n in range(3)
    ]  # fmt: skip
    return Verdict(list(cases), [], [], None, False, 12.0, blocks)


def verdict_of(*found: tuple[str, Estimate], failures: tuple[Difference, ...] = ()) -> Verdict:
    return verdict_on(
        *(CaseVerdict(one, *times, failures) for one, times in zip(CASES, found, strict=False))
    )


def test_the_exit_status_is_the_worst_that_is_known() -> None:
    assert verdict_of(FINE).exit_status == ExitStatus.NO_REGRESSION == 0
    assert verdict_of(FINE, OPEN).exit_status == ExitStatus.INCONCLUSIVE == 3
    assert verdict_of(OPEN, SLOW).exit_status == ExitStatus.REGRESSION == 1
    assert verdict_of(FINE, failures=(MORE,)).exit_status == 1
    noisy = replace(verdict_of(SLOW), noisy=True)
    assert noisy.exit_status == ExitStatus.TOO_NOISY == 4
    assert replace(noisy, removed=["matmul"]).exit_status == 1  # no noise explains that
    assert replace(verdict_of(FINE), noisy=True).exit_status == 0


@pytest.mark.parametrize("times", [SLOW, OPEN, FINE])
def test_a_kernel_that_may_regress_fails_in_no_output(
    times: tuple[str, Estimate],
) -> None:
    allowed = CaseVerdict(CASES[0], *times, failures=[MORE], is_allowed=True)
    verdict = verdict_on(allowed, CaseVerdict(CASES[1], *FINE))
    for noisy in (False, True):
        assert replace(verdict, noisy=noisy).exit_status == 0
    assert ("allowed: slower" in allowed.remarks) == (times is SLOW)
    suite = ElementTree.fromstring(as_junit(verdict))
    counts = [suite.get(name) for name in ("failures", "errors", "skipped")]
    assert counts == ["0", "0", "0" if times is FINE else "1"]
    assert verdict_on(allowed, CaseVerdict(CASES[1], *SLOW)).exit_status == 1


def test_the_outputs_say_what_failed_and_what_is_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = verdict_of(SLOW, OPEN, FINE)
    suite = ElementTree.fromstring(as_junit(verdict))
    assert [len(suite.findall(f"testcase/{tag}")) for tag in ("failure", "error")] == [1, 1]
    assert "1.100 (1.080–1.120)" in as_junit(verdict)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    write_verdict(verdict, VERSION, VERSION, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" title=gate::")[0] for line in lines] == ["::error", "::warning"]
    text = (tmp_path / "gate.md").read_text()
    assert (tmp_path / "summary.md").read_text() == f"before\n{text}"
    assert "<script>" not in text
    lead = f"### Gate: regression in 1 of 3 cases, inconclusive in 1, {PASSED} in 1; 3 blocks"
    assert lead in text
    header = next(line for line in text.splitlines() if line.startswith("| case"))
    assert [cell.strip() for cell in header.split("|")[1:-1]] == [one.heading for one in COLUMNS]
    assert "*Slow − fast*: processes in which" in text
    monkeypatch.setenv("COLUMNS", "80")
    print_verdict(verdict)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "matmul-100x64x32" in shown
    assert "cpu-float64" in shown


def test_what_failed_is_data_beside_its_text() -> None:
    verdict = verdict_of(FINE, failures=(MORE, WRONG))
    (case,) = json.loads(json.dumps(as_json(verdict, VERSION, VERSION)))["cases"]
    assert (case["verdict"], case["timing"]) == ("failed", NO_REGRESSION)
    assert case["failures"] == [
        {"metric": "peak_bytes", "base": 1, "head": 2, "text": "bytes at peak: 2 instead of 1"},
        {"metric": "status", "base": "ok", "head": "wrong: error 3", "text": "wrong: error 3"},
    ]


def test_what_was_not_decided_or_not_timed_is_green_nowhere() -> None:
    was_wrong = Difference("status", "wrong: error 3", "ok", "was wrong: error 3")
    cases = [
        CaseVerdict(CASES[0], *OPEN),
        CaseVerdict(CASES[1], changes=[was_wrong]),
        CaseVerdict(CASES[2], failures=[WRONG], is_allowed=True),
        CaseVerdict(CASES[3], *FINE),
    ]
    suite = ElementTree.fromstring(as_junit(verdict_on(*cases)))
    said = {case.get("name"): [(one.tag, one.get("message")) for one in case] for case in suite}
    assert said[CASES[0].name] == [
        ("error", "inconclusive: 1.010 slow − fast processes: 1 − 1 of 3 (≤ 77%);")
    ]
    assert said[CASES[1].name] == [("skipped", "not timed: was wrong: error 3")]
    assert said[CASES[2].name] == [("skipped", "not timed: allowed: wrong: error 3")]
    assert said[CASES[3].name] == []
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == ["4", "0", "1", "2"]


def test_the_headline_does_not_stutter_and_counts_in_plain_english() -> None:
    assert headline(verdict_of(OPEN, OPEN)) == "inconclusive in 2 of 2 cases; 3 blocks, 12 s"
    assert headline(verdict_of(FINE)) == f"{PASSED} in 1 of 1 case; 3 blocks, 12 s"
    removed = replace(verdict_of(FINE, SLOW), removed=["matmul"])
    said = f"1 kernel removed, regression in 1 of 2 cases, {PASSED} in 1; 3 blocks, 12 s"
    assert headline(removed) == said
    noisy = replace(verdict_of(SLOW), noisy=True)
    assert headline(noisy).startswith("the machine is too noisy for a verdict: regression in 1 of")


def test_a_pass_says_everywhere_what_it_excludes_and_how_many_processes_were_slow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the margin that the case was held against, which may be its kernel's own."""
    own = (
        NO_REGRESSION,
        replace(FINE[1], margin=0.075, slow=2, fast=1, processes=18, excess_bound=0.27),
    )
    verdict = verdict_of(FINE, own)
    texts = PASSED, PASSED.replace("5 %", "7.5 %")
    said = f"{texts[0]} in 1 of 2 cases, {texts[1]} in 1; 3 blocks"
    monkeypatch.setenv("COLUMNS", "160")
    print_verdict(verdict)
    write_verdict(verdict, VERSION, VERSION, tmp_path)
    shown = capsys.readouterr().out
    for text in (shown, (tmp_path / "gate.md").read_text()):
        assert all(
            one in text for one in (*texts, said, "0 − 0 of 6 (≤ 32%)", "2 − 1 of 18 (≤ 27%)")
        )
    assert said in (tmp_path / "gate.xml").read_text()
    (case, _) = json.loads((tmp_path / "gate.json").read_text())["cases"]
    assert (case["verdict"], case["estimate"]["margin"]) == (NO_REGRESSION, 0.05)


COMMENT_LINES = 36  # to which the action adds four
EVIL = "a|b`c`@octocat\n\n# octo/repo#12 GH-34 <script>alert(1)</script> ![x](http://y) " * 9


def evil_verdict(*counts: int) -> Verdict:
    """So many cases that are slow, open and fine, of a kernel whose name is an attack."""
    found = [
        CaseVerdict(replace(CASES[0], kernel=f"{EVIL}{number}"), *times, failures)
        for times, failures, count in zip(
            (SLOW, OPEN, FINE), ((replace(MORE, text=EVIL),), (), ()), counts, strict=True
        )
        for number in range(count)
    ]
    return replace(verdict_on(*found), removed=[EVIL] * counts[0], notes=[EVIL] * 99)


@pytest.mark.parametrize("counts", [(500, 500, 500), (500, 0, 0), (0, 500, 0), (0, 0, 500)])
def test_a_comment_is_short_and_safe_whatever_came_out(counts: tuple[int, int, int]) -> None:
    version = VERSION._replace(text=EVIL)
    text = as_comment(evil_verdict(*counts), version, version)
    assert len(text.splitlines()) <= COMMENT_LINES
    assert len(text) < 60_000  # GitHub takes 65,536 characters
    for evil in ("<script", "`", "@octocat", "![x]", "http://"):
        assert evil not in text
    shown = re.sub(r"&#(\d+);", lambda found: chr(int(found[1])), text)  # what a browser is told
    assert not re.search(r"@\w|(^|[^&])#\d|GH-\d", shown)
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {5}  # of four cells
    first = "### Gate: " + ("regression" if counts[0] else "inconclusive" if counts[1]
                            else "no regression")  # fmt: skip
    assert text.splitlines()[0] == first
    assert [row.split("|")[2].strip() for row in rows] == (
        ["failed"] * min(15, counts[0]) + ["inconclusive"] * min(5, counts[1])
    )
    assert ("985 more fail" in text) == bool(counts[0])  # those that were removed too
    assert ("495 more are open" in text) == bool(counts[1])


def test_a_comment_says_what_failed_then_what_is_open_then_how_many(tmp_path: Path) -> None:
    write_verdict(verdict_of(FINE, OPEN, SLOW), VERSION, VERSION, tmp_path)
    lines = (tmp_path / "gate-comment.md").read_text().splitlines()
    assert lines[0] == "### Gate: regression"
    header, _, *rows = [line for line in lines if line.startswith("|")]
    assert [cell.strip() for cell in header.split("|")[1:-1]] == [
        "case", "verdict", "head ÷ base (95 %)", "remarks",
    ]  # fmt: skip
    assert [row.split("|")[1].strip() for row in rows] == [CASES[2].name, CASES[1].name]
    counts = f"regression in 1 of 3 cases, inconclusive in 1, {PASSED} in 1; 3 blocks, 12 s. "
    assert any(line.startswith(f"{counts}The table") for line in lines)
    passed = as_comment(verdict_of(FINE), VERSION, VERSION).splitlines()
    assert passed[0] == "### Gate: no regression"
    assert not any(line.startswith("|") for line in passed)
    assert f"{PASSED} in 1 of 1 case; 3 blocks, 12 s. No regression was found." in passed
