"""What a gate says of the work of a call: as a note of a difference, and beside a slow-down."""

import json
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from versions import copy_package

from bench.cli.main import main
from bench.gate.blocks import KernelCase
from bench.gate.output import as_json, as_junit, print_verdict, write_verdict
from bench.gate.sequential import IMPROVEMENT, NO_REGRESSION, REGRESSION, Estimate, ExitStatus
from bench.gate.verdict import CaseVerdict, Verdict, Verified, compare_work
from bench.gate.versions import Version
from mlr import Case

CASE = KernelCase("matmul", Case("gradient", "cpu", "float64", 40, 5, 4))
AXES = ["--operation=gradient", "--batch=40", "--features=5", "--outputs=4", "--device=cpu"]
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


def gate(base: Path, head: Path, out: Path, kernels: str) -> tuple[int, dict[str, Any]]:
    """Run a gate that has time to verify and none for blocks; return its cases by kernel."""
    seconds = count(step=9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.gate.gate.wall_clock", lambda: float(next(seconds)))
        status = main(
            ["gate", str(base), str(head), *AXES, f"--kernel={kernels}", "--max-time=1s",
             f"--out={out}"]
        )  # fmt: skip
    cases = json.loads((out / "gate.json").read_text())["cases"]
    return status, {case["name"].partition("-")[0]: case for case in cases}


def test_a_head_that_does_more_is_told_from_one_that_does_the_same(tmp_path: Path) -> None:
    """Whether in operators, allocations, Python, or the code that a kernel generates."""
    head = copy_package(tmp_path / "head")
    for file, old, new, _ in CHANGES.values():
        change(head, file, old, new)
    status, cases = gate(ROOT, head, tmp_path, ",".join([*CHANGES, UNCHANGED]))
    for kernel, (*_, expected) in CHANGES.items():
        work = cases[kernel]["work"]
        assert expected <= {name for name, (old, new) in work.items() if old != new}, kernel
        (remark,) = [one for one in cases[kernel]["remarks"] if " work: " in one]
        assert remark.startswith("other" if kernel == "one_pass" else "more"), kernel
    same = cases[UNCHANGED]
    assert [both[0] == both[1] for both in same["work"].values()] == [True] * 4
    assert same["remarks"] == []
    assert not any(case["failures"] for case in cases.values())
    assert status == ExitStatus.INCONCLUSIVE


def test_a_base_that_cannot_say_what_it_generates_is_compared_without(tmp_path: Path) -> None:
    base, head = (copy_package(tmp_path / name) for name in ("base", "head"))
    change(base, "registry.py", "def generated_assembly(", "def another(")
    change(head, *CHANGES["one_pass"][:3])
    status, cases = gate(base, head, tmp_path, "one_pass")
    assert status == ExitStatus.INCONCLUSIVE
    assert {"operators", "function_calls"} <= set(cases["one_pass"]["work"])
    assert not any(name.startswith("loop_") for name in cases["one_pass"]["work"])
    assert cases["one_pass"]["remarks"] == []


def verdict(timing: str | None, work: Mapping[str, tuple[int, int]]) -> Verdict:
    found = Estimate(1.1, 1.08, 1.12, 0.03, 14, 0.05, 14, 0, 14, 1.0)
    return Verdict([CaseVerdict(CASE, timing, found, work=work)], [], [], None, False, 1.0, [])


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
def test_every_output_says_it_in_the_same_words(
    timing: str | None,
    work: dict[str, tuple[int, int]],
    said: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = verdict(timing, work)
    print_verdict(found)
    shown = capsys.readouterr().out
    write_verdict(found, VERSION, VERSION, tmp_path)
    outputs = [shown, (tmp_path / "gate.md").read_text()]
    outputs += [as_junit(found)] * (timing in (REGRESSION, None))  # the others hold no message
    for text in outputs:
        assert (" work" in text) == (said is not None)
        assert said is None or said in text
    (case,) = json.loads(json.dumps(as_json(found, VERSION, VERSION)))["cases"]
    assert case["remarks"] == ([said] if said else [])
    assert case["work"] == {name: list(both) for name, both in work.items()}


def test_other_work_fails_nothing_by_itself() -> None:
    assert verdict(NO_REGRESSION, {"operators": (1, 9)}).exit_status == ExitStatus.NO_REGRESSION
    assert verdict(REGRESSION, {"operators": (1, 1)}).exit_status == ExitStatus.REGRESSION


def test_only_counts_that_both_versions_have_are_compared() -> None:
    old = Verified(None, {}, {"operators": 3, "gone": 1})
    new = Verified(None, {}, {"operators": 4, "loop_loads": 9})
    assert compare_work(old, new) == {"operators": (3, 4)}
    assert compare_work(Verified(), new) == {}
    assert compare_work(Verified("wrong: error 3"), new) == {}
