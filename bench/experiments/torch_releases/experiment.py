"""Hold each release of torch against the one before, by the gate, and store what it found.

Base and head are the same code of mlr; only their interpreters differ. A pair of releases that is
stored already is not measured again, so that an interrupted experiment goes on where it was.
"""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from mlr import Case, get_kernel, load_kernels

from ...common.paths import FOLDER as SUITE_FOLDER
from ...common.paths import ROOT
from ...common.provenance import commit_info
from ...common.units import duration
from ...gate.blocks import BASE, HEAD, KernelCase
from ...gate.gate import Options, Show, run_gate
from ...gate.verdict import CaseVerdict
from ...gate.versions import checkout_versions
from ...machine.info import machine_slug
from ...machine.lock import exclusive_machine
from ...measure.work import CALL_COUNTS
from ...store.files import append_line, require_writable
from .analysis import CONTENT, FOLDER, SUITE, CaseRecord, Comparison, read_comparisons, subject
from .environments import Environment, prepare, read_releases

ENVIRONMENTS = ROOT / ".benchmarks" / "torch-releases"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("releases", nargs="+", metavar="RELEASE", help="two or more, the oldest first: 2.12 2.13.0")
    text = f"folder of their environments, kept for the next time (default: {ENVIRONMENTS})"
    add("--environments", type=Path, default=ENVIRONMENTS, metavar="FOLDER", help=text)
    add("--max-time", type=duration, default=1200.0, help="time for each pair (default: 20m)")
    add("--again", action="store_true", help="measure pairs that are stored already too")


def run(given: argparse.Namespace) -> int:
    """Compare what is not stored yet, print what is stored of the releases, and return 0."""
    pairs = [*pairwise(read_releases(given.releases))]
    folder = given.out / FOLDER
    require_writable("what releases are compared in", folder)
    path = folder / f"{machine_slug()}.jsonl"
    stored = {one.releases for one in read_comparisons(path) if one.suite == SUITE}
    wanted = [pair for pair in pairs if given.again or pair not in stored]
    needed = [*dict.fromkeys(one for pair in wanted for one in pair)]
    with Console(stderr=True).status("starting") as status:
        made = {one.release: one for one in prepare(needed, given.environments, status.update)}
        with exclusive_machine(status.update):
            for before, after in wanted:
                found = compare(made[before], made[after], given.max_time, status.update)
                append_line(path, found.model_dump_json())
    shown = [one for one in read_comparisons(path) if one.releases in pairs]
    print(*(part.body for part in subject({path.stem: shown}).sections({})), path, sep="\n\n")
    return 0


def cases() -> tuple[list[KernelCase], list[Path]]:
    """Return the cases that releases are compared on, and the kernel files that they need."""
    files = [SUITE_FOLDER / one for one in CONTENT["kernel_files"]]
    for file in files:
        load_kernels(file)
    return [
        KernelCase(get_kernel(name, operation).key, Case(operation, "cpu", dtype, *size))
        for operation, of in ((one["operation"], one) for one in CONTENT["suite"])
        for size in of["sizes"]
        for dtype in CONTENT["dtypes"]
        for name in of["kernels"]
    ], files


def compare(before: Environment, after: Environment, max_time_s: float, show: Show) -> Comparison:
    """Hold a release against the one before on the code of the working tree."""
    some, files = cases()
    pythons = {BASE: before.python, HEAD: after.python}
    options = Options(
        max_time_s=max_time_s, pythons=pythons, kernel_files=[str(file) for file in files]
    )
    title = f"{before.release} → {after.release}"
    with TemporaryDirectory(prefix="mlr-releases-") as place:
        base, head = checkout_versions(None, None, Path(place), ROOT, *files)
        verdict = run_gate(some, base, head, options, lambda text: show(f"{title}: {text}"))
    commit = commit_info()
    return Comparison(
        suite=SUITE,
        releases=(before.release, after.release),
        versions={name: (old, after.versions[name]) for name, old in before.versions.items()},
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit.get("id"),
        dirty=bool(commit.get("dirty")),
        exit_status=verdict.exit_status,
        wall_s=round(verdict.wall_s, 1),
        blocks=len(verdict.blocks),
        threads=options.threads,
        control=verdict.control.ratio if verdict.control else None,
        cases=records(verdict.cases),
        notes=verdict.notes,
    )


def records(verdicts: Sequence[CaseVerdict]) -> list[CaseRecord]:
    """Return what is stored of each case."""
    found = []
    for one in verdicts:
        case, estimate = one.benchmark.case, one.estimate
        names = ("ratio", "low", "high", "processes") if estimate else ()
        times: dict[str, Any] = {name: getattr(estimate, name) for name in names}
        found.append(
            CaseRecord(
                kernel=one.benchmark.kernel,
                operation=case.operation,
                dtype=case.dtype,
                sizes=case.by_axis,
                timing=one.timing,
                failures=[difference.text for difference in one.failures],
                work={name: one.work[name] for name in CALL_COUNTS if name in one.work},
                **times,
            )
        )
    return found
