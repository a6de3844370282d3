"""The experiment that proves the gate: how often does it cry wolf, and how often does it miss?

A trial is one whole gate on code that is the same on both sides. In some a second process loads one
core on and off; in others one case's new side does more work on every call, an amount fixed for the
whole experiment. What it adds to the time is measured in the trials themselves. In each trial the
suite is also run once per side the stock way, one process after the other, and judged by the rules
of others. Mutants are trials too: a mistake in one kernel, beside one that has none. Trials are
appended to one file as they end; more can be added on any day.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_benchmark.utils import get_commit_info

from mlr import Case

from ...common.paths import ROOT
from ...gate.gate import Blocks, Options, Progress, Verdict, run_gate
from ...gate.versions import PACKAGE, scratch, take
from ...gate.worker import Entry, Extra
from ...machine.info import machine_slug
from .analysis import ALL, KINDS, MUTANT, read_trials
from .baselines import judge
from .mutants import MUTANTS, Mutant

LIKE_ALL = "slow10"  # the work that `ALL` adds to every case
# Ten cases, dispatch-bound to arithmetic, each long enough that 5 % more is some operations more.
SUITE = tuple(
    Entry(kernel, Case(stage, "cpu", "float64", *size, seed=0))
    for stage, size, kernels in (
        ("gradient", (100, 64, 32), ("matmul", "einsum", "factored_einsum", "outer_sum",
                                     "autograd", "func_vjp")),
        ("step", (1_000, 6, 3), ("fused_addmm", "matmul_update", "torch_nn", "kron_update")),
    )
    for kernel in kernels
)  # fmt: skip


def run_trials(kind: str, count: int, folder: Path, show: Callable[[Progress], None]) -> Path:
    """Add trials of a kind to the experiment.

    Args:
        kind: One of `KINDS`, or `MUTANT`.
        count: How many to add; of mutants, how many of each.
        folder: Where the experiment's files lie.
        show: Called with the progress of each gate.

    Returns:
        The file.

    Raises:
        UserError: What is in the file already cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{machine_slug()}.jsonl"
    for _ in range(count):
        if kind == MUTANT:
            for mutant in MUTANTS:
                _append(path, _mutant_trial(mutant, len(read_trials(path)), show))
        else:
            _append(path, _added_trial(kind, read_trials(path), show))
    return path


def _added_trial(
    kind: str, known: list[dict[str, Any]], show: Callable[[Progress], None]
) -> dict[str, Any]:
    """Do a trial with the work that the experiment adds, found if it is the first."""
    work = next((trial["work"] for trial in known if trial.get("work")), None)
    with scratch() as place:
        base = take(None, place / "old", ROOT)
        head = take(None, place / "new", ROOT)
        blocks = Blocks(base, head, Options())
        return _trial(kind, len(known), work or calibrate(blocks), blocks, show)


def _mutant_trial(mutant: Mutant, number: int, show: Callable[[Progress], None]) -> dict[str, Any]:
    """Hold a mutant against what it was, beside a kernel of its stage that is as it was."""
    entries = [Entry(name, mutant.case) for name in (mutant.kernel, mutant.bystander)]
    with scratch() as place:
        base = take(None, place / "old", ROOT)
        (place / "mutant").mkdir()
        shutil.copytree(base.folder / PACKAGE, place / "mutant" / PACKAGE)
        mutant.put_into(place / "mutant" / PACKAGE)
        head = take(str(place / "mutant"), place / "new", ROOT)
        verdict = run_gate(entries, base, head, Options(seed=number), show)
    return {"kind": MUTANT, "mutant": mutant.name, "slowed": entries[0].name, **_said(verdict)}


def calibrate(blocks: Blocks) -> dict[str, dict[str, dict[str, int]]]:
    """Return the work to add for each slow-down and case, fixed from then on.

    Of three processes that each find their own, the one in the middle counts.
    """
    shares = {kind: share for kind, share in KINDS.items() if share and kind != ALL}
    tries = [blocks.run(SUITE, shares=list(shares.values())) for _ in range(3)]
    return {
        kind: {
            entry.name: sorted(
                (one[entry.name]["found"][str(share)] for one in tries),
                key=lambda found: float(found["seconds"]),
            )[1]["work"]
            for entry in SUITE
        }
        for kind, share in shares.items()
    }


def _trial(
    kind: str,
    number: int,
    work: dict[str, Any],
    blocks: Blocks,
    show: Callable[[Progress], None],
) -> dict[str, Any]:
    chance = random.Random(number)
    names = [entry.name for entry in SUITE]
    slowed = chance.choice(names) if KINDS[kind] and kind != ALL else None
    wanted = names if kind == ALL else [slowed] if slowed else []
    added = work[LIKE_ALL if kind == ALL else kind] if wanted else {}
    extra = {name: Extra(**added[name]) for name in wanted}
    with _load(number) if kind == "loaded" else _quiet():
        old, new = (
            blocks.run(SUITE, rounds=True, seed=number, extra=extra_work)
            for extra_work in ({}, extra)
        )
        options = Options(seed=number, extra=extra)
        verdict = run_gate(SUITE, blocks.base, blocks.head, options, show)
    return {
        "kind": kind,
        "slowed": slowed,
        "work": work,
        **_said(verdict),
        "stock": judge(
            {name: one["rounds"] for name, one in old.items()},
            {name: one["rounds"] for name, one in new.items()},
        ),
    }


def _said(verdict: Verdict) -> dict[str, Any]:
    """Return what is kept of a verdict."""
    cases = {}
    for case in verdict.cases:
        values = [block.get(case.entry.name, {}).get("log_ratio") for block in verdict.recorded]
        found = case.finding
        cases[case.entry.name] = {
            "verdict": found.verdict if found else None,
            "faults": case.faults,
            "ratio": found.ratio if found else None,
            "low": found.low if found else None,
            "high": found.high if found else None,
            "log_ratios": [round(value, 5) for value in values if value is not None],
        }
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": get_commit_info().get("id"),
        "code": verdict.code,
        "wall_s": round(verdict.wall_s, 1),
        "blocks": verdict.blocks,
        "control": verdict.control.ratio if verdict.control else None,
        "cases": cases,
    }


def _append(path: Path, trial: dict[str, Any]) -> None:
    if path.exists() and not (text := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)  # what a kill left of the last one
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(trial) + "\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _quiet() -> Iterator[None]:
    yield


@contextmanager
def _load(seed: int) -> Iterator[None]:
    """Keep one core busy on and off, for a second or so at a time."""
    code = (
        "import random, time\n"
        f"chance = random.Random({seed})\n"
        "while True:\n"
        "    until = time.monotonic() + chance.uniform(0.2, 3)\n"
        "    while time.monotonic() < until: pass\n"
        "    time.sleep(chance.uniform(0.2, 3))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as other:
        try:
            yield
        finally:
            other.kill()
