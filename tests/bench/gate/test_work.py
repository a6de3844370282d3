"""What a gate says of the work of a call: as a note of a difference, and beside a slow-down."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from paths import ROOT
from versions import copy_package, forgetting_versions

from bench.gate.blocks import BASE, HEAD, KernelCase, Spec
from bench.gate.loading import load_kernels
from bench.gate.output import print_verdict, write_verdict
from bench.gate.sequential import IMPROVEMENT, NO_REGRESSION, REGRESSION, Estimate, ExitStatus
from bench.gate.verdict import CaseVerdict, Verdict, Verified, compare_exactly, compare_work
from bench.gate.versions import Version
from bench.gate.worker import verify
from mlr import Case

CASE = KernelCase("matmul", Case("gradient", "cpu", "float64", 40, 5, 4))
VERSION = Version("a", Path(), None, None)
# By kernel: the file, the text that the head has another in the place of, and what then differs.
CHANGES: dict[str, tuple[str, str, str, set[str]]] = {
    "matmul": ("gradients.py", "Gradient(x.T @ delta, d", "Gradient(x.T.T.T @ delta, d",
               {"operators"}),
    "einsum": ("gradients.py", '"pi,pj->ij", x, delta)', '"pi,pj->ij".strip(), x, delta)',
               {"function_calls"}),
    "outer_sum": ("gradients.py", "x[:, :, None] * delta[:, None, :]).sum",
                  "x[:, :, None] * delta[: len(x.new_empty(1)) * len(x), None, :]).sum",
                  {"operators", "allocations", "allocated_bytes", "function_calls"}),
    "one_pass": ("one_pass/codegen/outputs.py", "_TOGETHER = 8", "_TOGETHER = 4",
                 {"loop_loads", "loop_multiply_adds"}),
}  # fmt: skip
UNCHANGED = "autograd"


def change(folder: Path, file: str, old: str, new: str) -> None:
    path = folder / "mlr" / file
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new, 1))


def work_of(base: Path, head: Path, kernels: Iterable[str]) -> dict[str, CaseVerdict]:
    """Verify both versions of some kernels in this process, and compare the work of their calls."""
    found = {}
    with forgetting_versions():
        sides = {name: load_kernels(folder, f"mlr_test_{name}")
                 for name, folder in ((BASE, base), (HEAD, head))}  # fmt: skip
        for kernel in kernels:
            one, own = KernelCase(kernel, CASE.case), {n: side[kernel] for n, side in sides.items()}
            some = [verify(one, versions, Spec({}, [one])) for versions in ({BASE: own[BASE]}, own)]
            old, new = (Verified(**side) for side in some)
            exact = compare_exactly(one.case, old, new, {})
            found[kernel] = CaseVerdict(one, None, None, *exact, work=compare_work(old, new))
    return found


def test_a_head_that_does_more_is_told_from_one_that_does_the_same(tmp_path: Path) -> None:
    """Whether in operators, allocations, Python, or the code that a kernel generates."""
    head = copy_package(tmp_path / "head")
    for file, old, new, _ in CHANGES.values():
        change(head, file, old, new)
    found = work_of(ROOT, head, [*CHANGES, UNCHANGED])
    for kernel, (*_, expected) in CHANGES.items():
        work = found[kernel].work
        assert expected <= {name for name, (old, new) in work.items() if old != new}, kernel
        (remark,) = [one for one in found[kernel].remarks if " work: " in one]
        assert remark.startswith("other" if kernel == "one_pass" else "more"), kernel
    same = found[UNCHANGED]
    assert [old == new for old, new in same.work.values()] == [True] * 4
    assert same.remarks == []
    assert not any(case.failures for case in found.values())


def test_a_base_that_cannot_say_what_it_generates_is_compared_without(tmp_path: Path) -> None:
    base, head = (copy_package(tmp_path / name) for name in ("base", "head"))
    change(base, "registry.py", "def generated_assembly(", "def another(")
    change(head, *CHANGES["one_pass"][:3])
    case = work_of(base, head, ["one_pass"])["one_pass"]
    assert {"operators", "function_calls"} <= set(case.work)
    assert not any(name.startswith("loop_") for name in case.work)
    assert case.remarks == []


@pytest.mark.parametrize(
    ("timing", "work", "said"),
    [
        (REGRESSION, {"operators": (12, 14), "allocations": (3, 3)},
         "more work: 12 → 14 operators"),
        (REGRESSION, {"operators": (14, 12), "allocated_bytes": (8, 2_048)},
         "more work: 14 → 12 operators, 8 → 2,048 allocated bytes"),
        (REGRESSION, {"operators": (0, 0), "loop_loads": (64, 70)},
         "other work: 64 → 70 loop loads"),
        (REGRESSION, {"operators": (12, 12), "function_calls": (4, 4)},
         "the same work, slower: 12 operators, 4 function calls"),
        (NO_REGRESSION, {"operators": (12, 14)}, "more work: 12 → 14 operators"),
        (IMPROVEMENT, {"operators": (14, 12)}, "other work: 14 → 12 operators"),
        (None, {"operators": (14, 12)}, "other work: 14 → 12 operators"),
        (NO_REGRESSION, {"operators": (12, 12)}, None),
        (REGRESSION, {}, None),
    ],
)  # fmt: skip
def test_the_work_is_told_of_a_call_that_does_more_or_is_slower(
    timing: str | None, work: dict[str, tuple[int, int]], said: str | None
) -> None:
    assert CaseVerdict(CASE, timing, work=work).remarks == ([said] if said else [])


def test_every_output_says_it_and_it_fails_nothing_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    estimate = Estimate(1.1, 1.08, 1.12, 14, 0.05, 14, 0, 14, 1.0)
    slower = CaseVerdict(CASE, REGRESSION, estimate, work={"operators": (12, 14)})
    found = Verdict([slower], [], [], None, False, 1.0, [])
    print_verdict(found)
    write_verdict(found, VERSION, VERSION, tmp_path)
    texts = [(tmp_path / f"gate.{kind}").read_text() for kind in ("md", "xml")]
    for text in (capsys.readouterr().out, *texts):
        assert "more work: 12 → 14 operators" in text
    (case,) = json.loads((tmp_path / "gate.json").read_text())["cases"]
    assert case["work"] == {"operators": [12, 14]}
    assert case["remarks"] == slower.remarks
    passed = replace(found, cases=[replace(slower, timing=NO_REGRESSION)])
    assert (passed.exit_status, found.exit_status) == (0, ExitStatus.REGRESSION)


def test_only_counts_that_both_versions_have_are_compared() -> None:
    old = Verified(None, {}, {"operators": 3, "gone": 1})
    new = Verified(None, {}, {"operators": 4, "loop_loads": 9})
    assert compare_work(old, new) == {"operators": (3, 4)}
    assert compare_work(Verified(), new) == {}
    assert compare_work(Verified("wrong: error 3"), new) == {}
