"""Trials of the gate, each a whole gate whose truth is known; `trials.toml` says of which kinds.

In trials without a mistake each version is also run once the way of other tools, one process after
the other, and judged by their rules. Trials are appended to one file as they end; more can be added
on any day.
"""

import inspect
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from pytest_benchmark.utils import get_commit_info
from scipy import stats

from mlr import OPERATIONS, Case, get_kernel

from ...common.paths import ROOT
from ...gate.blocks import HEAD, Found, KernelCase, Spec, run_block
from ...gate.gate import Options, Show, run_gate
from ...gate.verdict import CaseVerdict
from ...gate.versions import PACKAGE, checkout_versions
from ...machine.info import machine_slug
from ...run.process import WorkerProcess
from ...store.files import append_line
from .analysis import CONTENT, KINDS, MUTATION, CaseRecord, Trial, read_trials
from .worker import put_delays

Rounds = Sequence[float]  # the seconds of the rounds of one process
SUITES = {
    name: [
        KernelCase(kernel, Case(device="cpu", **group["case"]))
        for group in groups
        for kernel in group["kernels"]
    ]
    for name, groups in CONTENT["suite"].items()
}
LOAD = """
import random, time
chance = random.Random({seed})
while True:
    until = time.monotonic() + chance.uniform(0.2, 3)
    while time.monotonic() < until: pass
    time.sleep(chance.uniform(0.2, 3))
"""


class Mutation(NamedTuple):
    """A mistake that is put into a kernel."""

    name: str  # what it is, in a few words
    kernel: str  # in which it is made
    case: Case  # on which it is looked for
    old: str  # the text of the kernel that it changes
    new: str  # what stands there instead

    def put_into(self, package: Path) -> None:
        """Change a copy of the package; a ValueError if its kernel does not hold the text once."""
        path = package / f"{self.case.operation}s.py"
        text = path.read_text(encoding="utf-8")
        kernel = inspect.getsource(get_kernel(self.kernel).function)
        if kernel not in text or kernel.count(self.old) != 1:
            raise ValueError(f"{self.kernel} in {path} must hold {self.old!r} once")
        changed = text.replace(kernel, kernel.replace(self.old, self.new))
        path.write_text(changed, encoding="utf-8")


MUTATIONS = [
    Mutation(**one | {"case": Case(device="cpu", **one["case"])}) for one in CONTENT["mutation"]
]


def run_trials(kind: str, count: int, folder: Path, show: Show) -> Path:
    """Add so many trials of one of `analysis.KINDS`, or of each mutation, and return their file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{machine_slug()}.jsonl"
    for mutation in (MUTATIONS if kind == MUTATION else [None]) * count:
        trial = run_trial(kind, len(read_trials(path)), show, mutation)
        append_line(path, trial.model_dump_json())
    return path


def run_trial(name: str, number: int, show: Show, mutation: Mutation | None) -> Trial:
    """Compare the working tree with a copy of it that is changed as the kind of trial says."""
    kind = KINDS[name]
    cases = SUITES[kind.suite]
    changed = [random.Random(number).choice(cases)] if kind.slowed else []
    baselines = {}
    load = [sys.executable, "-c", LOAD.format(seed=number)]
    with (
        WorkerProcess(load, 3_600, reports=False) if kind.loaded else nullcontext(),
        TemporaryDirectory() as place,
    ):
        base, head = checkout_versions(None, None, Path(place), ROOT)
        head = head._replace(text="changed")
        if mutation is not None:
            mutation.put_into(head.folder / PACKAGE)
            bystander = OPERATIONS[mutation.case.operation].baseline
            cases = [KernelCase(kernel, mutation.case) for kernel in (mutation.kernel, bystander)]
            changed = cases[:1]
        else:
            slowed = cases if kind.every_case else changed
            put_delays(head.folder / PACKAGE, {case.kernel: kind.slowed for case in slowed})
            specs = [Spec({HEAD: str(version.folder)}, cases) for version in (base, head)]
            baselines = judge(*(run_block(spec, f"{__package__}.worker")[1] for spec in specs))
        verdict = run_gate(cases, base, head, Options(seed=number), show)
    return Trial(
        kind=name,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=get_commit_info().get("id"),
        exit_status=verdict.exit_status,
        wall_s=round(verdict.wall_s, 1),
        blocks=len(verdict.blocks),
        control=verdict.control.ratio if verdict.control else None,
        cases={case.benchmark.name: _record(case, verdict.blocks) for case in verdict.cases},
        changed=None if kind.every_case or not changed else changed[0].name,
        mutation=mutation.name if mutation else None,
        baselines=baselines,
    )


def _record(case: CaseVerdict, blocks: Sequence[Mapping[str, Any]]) -> CaseRecord:
    found = [block.get(case.benchmark.name, {}) for block in blocks]
    return CaseRecord(
        timing=case.timing,
        failures=[(one.metric, one.base, one.head) for one in case.failures],
        log_ratios=[round(one["log_ratio"], 5) for one in found if "log_ratio" in one],
    )


# When the rule of another tool fails a case, given the rounds of its base and of its head.
BASELINE_DETECTORS: dict[str, Callable[[Rounds, Rounds], Any]] = {
    "min:5%": lambda base, head: np.min(head) > 1.05 * np.min(base),
    "mean:5%": lambda base, head: np.mean(head) > 1.05 * np.mean(base),
    "median:10%": lambda base, head: np.median(head) > 1.1 * np.median(base),
    "Mann-Whitney (asv)": lambda base, head: (
        np.median(head) > 1.1 * np.median(base) and stats.mannwhitneyu(base, head).pvalue < 0.002
    ),
    "t-test (pyperf)": lambda base, head: (
        np.mean(head) > np.mean(base) and stats.ttest_ind(base, head).pvalue < 0.05
    ),
}


def judge(base: Found, head: Found) -> dict[str, list[str]]:
    """Return for each rule the cases that it fails; of each case the `rounds` are given."""
    return {
        rule: [name for name in base if fails(base[name]["rounds"], head[name]["rounds"])]
        for rule, fails in BASELINE_DETECTORS.items()
    }
