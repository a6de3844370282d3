"""Trials of the gate, each a whole gate whose truth is known.

In some the head is the base, while a second process may load one core on and off; in others a copy
of the head is slower in every call of one case or of all; in others a mistake is put into one
kernel, beside one that has none. In trials without a mistake each version is also run once the way
of other tools, one process after the other, and judged by their rules. Trials are appended to one
file as they end; more can be added on any day.
"""

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pytest_benchmark.utils import get_commit_info, parse_compare_fail
from scipy import stats

from mlr import OPERATIONS, Case

from ...common.paths import ROOT
from ...gate.blocks import HEAD, Found, KernelCase, Spec, run_block
from ...gate.gate import Options, Show, run_gate
from ...gate.verdict import Verdict
from ...gate.versions import PACKAGE, Version, checkout_versions, scratch
from ...machine.info import machine_slug
from ...run.process import WorkerProcess
from ...store.files import append_line
from .analysis import MUTATION, SLOWED, SLOWED_ALL, SLOWED_ONE, CaseRecord, Trial, read_trials
from .mutations import MUTATIONS, Mutation
from .worker import put_delays

Rounds = Sequence[float]  # the seconds of the rounds of one process
# Ten cases, dispatch-bound to arithmetic, each of a kernel of its own.
SUITE = tuple(
    KernelCase(kernel, Case(operation, "cpu", "float64", *size, seed=0))
    for operation, size, kernels in (
        ("gradient", (100, 64, 32), ("matmul", "einsum", "factored_einsum", "outer_sum",
                                     "autograd", "func_vjp")),
        ("step", (1_000, 6, 3), ("fused_addmm", "matmul_update", "torch_nn", "kron_update")),
    )
    for kernel in kernels
)  # fmt: skip
LOAD = """
import random, time
chance = random.Random({seed})
while True:
    until = time.monotonic() + chance.uniform(0.2, 3)
    while time.monotonic() < until: pass
    time.sleep(chance.uniform(0.2, 3))
"""


def run_trials(kind: str, count: int, folder: Path, show: Show) -> Path:
    """Add so many trials of one of `analysis.KINDS`, or of each mutation, and return their file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{machine_slug()}.jsonl"
    ways = [partial(_trial, kind)]
    if kind == MUTATION:
        ways = [partial(_mutation_trial, mutation) for mutation in MUTATIONS]
    for way in ways * count:
        append_line(path, way(len(read_trials(path)), show).model_dump_json())
    return path


@contextmanager
def _versions(change: Callable[[Path], None]) -> Iterator[tuple[Version, Version]]:
    """Give the working tree as the base, and a changed copy of it as the head."""
    with scratch() as place:
        base, head = checkout_versions(None, None, place, ROOT)
        change(head.folder / PACKAGE)
        yield base, head._replace(text="changed", origin=None)


def _mutation_trial(mutation: Mutation, number: int, show: Show) -> Trial:
    """Compare a mutated kernel with what it was, beside a kernel that is as it was."""
    bystander = OPERATIONS[mutation.case.operation].baseline
    cases = [KernelCase(name, mutation.case) for name in (mutation.kernel, bystander)]
    with _versions(mutation.put_into) as (base, head):
        verdict = run_gate(cases, base, head, Options(seed=number), show)
    return _record(verdict, kind=MUTATION, mutation=mutation.name, changed=cases[0].name)


def _trial(kind: str, number: int, show: Show) -> Trial:
    one = random.Random(number).choice(SUITE)
    changed = SUITE if kind == SLOWED_ALL else [one] if kind in SLOWED_ONE else []
    shares = {one.kernel: SLOWED[kind] for one in changed}
    load = [sys.executable, "-c", LOAD.format(seed=number)]
    with (
        WorkerProcess(load, 3_600, reports=False) if kind == "a_a_loaded" else nullcontext(),
        _versions(lambda package: put_delays(package, shares)) as (base, head),
    ):
        specs = [Spec({HEAD: str(version.folder)}, SUITE) for version in (base, head)]
        baselines = judge(*(run_block(spec, f"{__package__}.worker").found for spec in specs))
        verdict = run_gate(SUITE, base, head, Options(seed=number), show)
    name = one.name if kind in SLOWED_ONE else None
    return _record(verdict, kind=kind, changed=name, baselines=baselines)


def _record(verdict: Verdict, **known: Any) -> Trial:
    """Return what is kept of a verdict, beside what is known of its trial."""
    cases = {}
    for case in verdict.cases:
        name = case.benchmark.name
        found = [block[name] for block in verdict.blocks if "log_ratio" in block.get(name, {})]
        cases[name] = CaseRecord(
            timing=case.timing,
            failures=[(one.metric, one.base, one.head) for one in case.failures],
            log_ratios=[round(one["log_ratio"], 5) for one in found],
        )
    return Trial(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=get_commit_info().get("id"),
        exit_status=verdict.exit_status,
        wall_s=round(verdict.wall_s, 1),
        blocks=len(verdict.blocks),
        control=verdict.control.ratio if verdict.control else None,
        cases=cases,
        **known,
    )


def _plugin(rule: str, base: Rounds, head: Rounds) -> bool:
    """Apply pytest-benchmark's own check, as of `--benchmark-compare-fail=RULE`."""
    check = parse_compare_fail(rule)
    new, old = ({check.field: float(getattr(np, check.field)(one))} for one in (head, base))
    return bool(check.fails(new, old))


def _mann_whitney(base: Rounds, head: Rounds) -> bool:
    """Apply asv's rule: p under 0.002 by the Mann-Whitney test, and 10 % slower in the median."""
    slower = float(np.median(head)) > 1.1 * float(np.median(base))
    return slower and float(stats.mannwhitneyu(base, head).pvalue) < 0.002


def _t_test(base: Rounds, head: Rounds) -> bool:
    """Apply pyperf's rule: a two-sample t-test at 95 %, and slower in the mean."""
    slower = float(np.mean(head)) > float(np.mean(base))
    return slower and float(stats.ttest_ind(base, head).pvalue) < 0.05


BASELINE_DETECTORS: dict[str, Callable[[Rounds, Rounds], bool]] = {
    **{rule: partial(_plugin, rule) for rule in ("min:5%", "mean:5%", "median:10%")},
    "Mann-Whitney (asv)": _mann_whitney,
    "t-test (pyperf)": _t_test,
}


def judge(base: Found, head: Found) -> dict[str, list[str]]:
    """Return for each rule the cases that it fails; of each case the `rounds` are given."""
    return {
        rule: [name for name in base if fails(base[name]["rounds"], head[name]["rounds"])]
        for rule, fails in BASELINE_DETECTORS.items()
    }
