"""Trials of the gate, each a whole gate whose truth is known.

In some the head is the base, while a second process may load one core on and off; in others a copy
of the head is slower in every call of one case or of all; in others a mistake is put into one
kernel, beside one that has none. In trials without a mistake each version is also run once the way
of other tools, one process after the other, and judged by their rules. Trials are appended to one
file as they end; more can be added on any day.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_benchmark.utils import get_commit_info

from mlr import Case

from ...common.paths import ROOT
from ...gate.blocks import run_block
from ...gate.gate import Options, Show, run_gate
from ...gate.spec import HEAD, KernelCase, Spec
from ...gate.verdict import CaseVerdict, Verdict
from ...gate.versions import PACKAGE, Version, checkout_versions, scratch
from ...machine.info import machine_slug
from ...run.process import WorkerProcess
from .baselines import judge
from .delays import put_delays
from .mutations import MUTATIONS, Mutation
from .records import (
    MUTATION,
    SLOWED,
    SLOWED_ALL,
    SLOWED_ONE,
    CaseRecord,
    Trial,
    append_trial,
    read_trials,
)

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
    """Add trials to the experiment, and return its file.

    Args:
        kind: One of `records.KINDS`.
        count: How many to add; of mutations, how many of each.
        folder: Where the experiment's files lie.
        show: Called with the progress of each gate.

    Raises:
        UserError: What is in the file already cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{machine_slug()}.jsonl"
    for _ in range(count):
        if kind == MUTATION:
            for mutation in MUTATIONS:
                append_trial(path, _mutation_trial(mutation, len(read_trials(path)), show))
        else:
            append_trial(path, _trial(kind, len(read_trials(path)), show))
    return path


@contextmanager
def _versions(change: Callable[[Path], None]) -> Iterator[tuple[Version, Version]]:
    """Give the working tree as the base, and a changed copy of it as the head."""
    with scratch() as place:
        ignored = shutil.ignore_patterns("__pycache__")
        copy = Path(shutil.copytree(ROOT / PACKAGE, place / "changed" / PACKAGE, ignore=ignored))
        change(copy)
        yield checkout_versions(None, str(copy.parent), place, ROOT)


def _mutation_trial(mutation: Mutation, number: int, show: Show) -> Trial:
    """Compare a mutated kernel with what it was, beside a kernel that is as it was."""
    cases = [KernelCase(name, mutation.case) for name in (mutation.kernel, mutation.bystander)]
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
        baselines = judge(_rounds(base), _rounds(head))
        verdict = run_gate(SUITE, base, head, Options(seed=number), show)
    name = one.name if kind in SLOWED_ONE else None
    return _record(verdict, kind=kind, changed=name, baselines=baselines)


def _rounds(version: Version) -> dict[str, list[float]]:
    spec = Spec({HEAD: str(version.folder)}, SUITE)
    found = run_block(spec, f"{__package__}.worker").found
    return {name: one["rounds"] for name, one in found.items()}


def _record(verdict: Verdict, **known: Any) -> Trial:
    """Return what is kept of a verdict, beside what is known of its trial."""
    return Trial(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=get_commit_info().get("id"),
        exit_status=verdict.exit_status,
        wall_s=round(verdict.wall_s, 1),
        blocks=len(verdict.blocks),
        control=verdict.control.ratio if verdict.control else None,
        cases={case.benchmark.name: _case(case, verdict) for case in verdict.cases},
        **known,
    )


def _case(case: CaseVerdict, verdict: Verdict) -> CaseRecord:
    values = [block.get(case.benchmark.name, {}).get("log_ratio") for block in verdict.blocks]
    return CaseRecord(
        timing=case.timing,
        failures=[(one.metric, one.base, one.head) for one in case.failures],
        log_ratios=[round(value, 5) for value in values if value is not None],
    )
