"""Trials of the gate, each a whole gate whose truth is known; `trials.toml` says of which kinds.

In trials without a mistake the rules of other tools judge both versions too, timed in one process
each; in some of them both are also timed by those tools' own protocols. Trials are appended to one
file as they end, until there are as many as are wanted; more can be added on any day.
"""

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from mlr import Case, baseline_of

from ...common.errors import UserError
from ...common.paths import ROOT
from ...common.provenance import commit_info
from ...gate.blocks import BASE, HEAD, KernelCase, Spec, run_block
from ...gate.gate import Options, Show, run_gate
from ...gate.verdict import CaseVerdict
from ...gate.versions import PACKAGE, Version, checkout_versions
from ...machine.devices import device_of
from ...machine.info import machine_slug
from .. import add_trials as trials
from ..machine_load import under_load
from ..progress import on_exclusive_machine
from . import worker
from .analysis import CONTENT, KINDS, SUITE, CaseRecord, Trial, missing, read_trials, subject

Rounds = Mapping[str, Sequence[float]]  # of a version: the seconds of all rounds, by case
CASES = [
    KernelCase(kernel, Case(device="cpu", **group["case"]))
    for group in CONTENT["suite"]
    for kernel in group["kernels"]
]
PROTOCOLS: list[dict[str, Any]] = CONTENT["protocol"]


class Mutation(NamedTuple):
    """A mistake that is put into a kernel."""

    name: str  # what it is, in a few words
    kernel: str  # in which it is made
    case: Case  # on which it is looked for
    old: str  # the text that it changes
    new: str  # what stands there instead
    file: str | None = None  # of the package, where it is not that of the operation's kernels

    def put_into(self, package: Path) -> None:
        """Change a copy of the package; a ValueError if the text to change is not there once."""
        path = package / (self.file or f"{self.case.operation}s.py")
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{path} must hold {self.old!r} once, for {self.kernel}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


MUTATIONS = {
    one["name"]: Mutation(**one | {"case": Case(device="cpu", **one["case"])})
    for one in CONTENT["mutation"]
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    trials.add_arguments(parser, KINDS)
    text = "interpreter of another environment, for kinds with two"
    parser.add_argument("--head-python", metavar="PYTHON", help=text)


def run(given: argparse.Namespace) -> int:
    """Add trials, print what all of the machine say, and return 0."""
    with on_exclusive_machine() as show:
        limits, python = (given.count, given.max_time), given.head_python
        path = run_trials(given.kind, *limits, python, given.out / "gate", show)
    stored = read_trials(path)
    left = {kind if of is None else of: n for (kind, of), n in missing(stored).items()}
    return trials.show_trials(path, subject({path.stem: stored}), left)


def run_trials(
    kinds: Collection[str],
    count: float,
    max_time_s: float,
    python: str | None,
    folder: Path,
    show: Show,
) -> Path:
    """Add trials of some kinds that are wanted still, and return their file.

    For `count` and `max_time_s` see `add_trials`. `python` is the head's interpreter where there
    are two.

    Raises:
        UserError: A kind needs two interpreters, and none is named.
    """
    possible = [name for name in kinds if python or not KINDS[name].interpreters]
    if not possible:
        raise UserError(
            f"trials of {', '.join(kinds)} need a second interpreter; got none; give "
            "--head-python PYTHON, that of another environment"
        )
    folder.mkdir(parents=True, exist_ok=True)

    def shares(earlier: Sequence[Trial]) -> dict[tuple[str, str | None], float]:
        left = missing(earlier).items()
        return {unit: n / KINDS[unit[0]].wanted for unit, n in left if unit[0] in possible}

    def run_next(unit: tuple[str, str | None], earlier: Sequence[Trial]) -> Trial:
        return run_trial(unit[0], earlier, python, show, MUTATIONS.get(str(unit[1])))

    path = folder / f"{machine_slug()}.jsonl"
    return trials.add_trials(path, count, max_time_s, read_trials, shares, run_next)


def run_trial(
    name: str, earlier: Sequence[Trial], python: str | None, show: Show, mutation: Mutation | None
) -> Trial:
    """Compare the working tree with a copy of it that is changed as the kind of trial says."""
    kind, number, cases = KINDS[name], len(earlier), CASES
    changed = [random.Random(number).choice(cases)] if kind.slowed else []
    slowed = cases if kind.every_case else changed
    if strange := [one.name for one in slowed if not device_of(one.case.device).is_host]:
        raise UserError(
            "a slow-down is time on the processor, in which an accelerator does earlier calls; "
            f"got {strange[0]}; slow cases on cpu"
        )
    baselines: dict[str, list[str]] = {}
    with under_load(kind.loaded), TemporaryDirectory() as place:
        base, head = checkout_versions(None, None, Path(place), ROOT)
        head = head._replace(text="changed")
        if mutation is not None:
            mutation.put_into(head.folder / PACKAGE)
            bystander = baseline_of(mutation.case.operation).name
            cases = [KernelCase(kernel, mutation.case) for kernel in (mutation.kernel, bystander)]
            changed = cases[:1]
        else:
            put_delays(head.folder / PACKAGE, {case.name: kind.slowed for case in slowed})
            before = sum((one.kind, one.suite) == (name, SUITE) for one in earlier)
            protocols = PROTOCOLS if before >= kind.wanted - kind.tools else PROTOCOLS[:1]
            for protocol in protocols:
                show(f"timing for {', '.join(protocol['rules'])}")
                baselines |= judge(protocol["rules"], *time_versions(protocol, cases, base, head))
        pythons = {BASE: sys.executable, HEAD: python} if python and kind.interpreters else {}
        options = Options(seed=number, pythons=pythons)
        verdict = run_gate(cases, base, head, options, show)
    verdict.cases = [_of_slowed(one) if one.benchmark in slowed else one for one in verdict.cases]
    return Trial(
        kind=name,
        suite=SUITE,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit_info().get("id"),
        exit_status=verdict.exit_status,
        wall_s=round(verdict.wall_s, 1),
        blocks=len(verdict.blocks),
        control=verdict.control.ratio if verdict.control else None,
        cases={case.benchmark.name: _record(case, verdict.blocks) for case in verdict.cases},
        changed=None if kind.every_case or not changed else changed[0].name,
        mutation=mutation.name if mutation else None,
        baselines=baselines,
    )


def put_delays(package: Path, shares: Mapping[str, float]) -> None:
    """Let a copy of the package slow calls by shares, by kernel and case, when it is imported."""
    with (package / "__init__.py").open("a", encoding="utf-8") as file:
        file.write("from .one_pass.codegen import Source\n")
        file.write(f"from {worker.__name__} import slow_down\n")
        file.write(f"slow_down(Kernel, Source, {dict(shares)})\n")


def _of_slowed(case: CaseVerdict) -> CaseVerdict:
    """Leave out the first call of a slowed case: its slow-down is calibrated while it is bound."""
    return replace(case, failures=[one for one in case.failures if one.metric != "first_call_s"])


def _record(case: CaseVerdict, blocks: Sequence[Mapping[str, Any]]) -> CaseRecord:
    found = [block.get(case.benchmark.name, {}) for block in blocks]
    return CaseRecord(
        timing=case.timing,
        failures=[(one.metric, one.base, one.head) for one in case.failures],
        log_ratios=[round(one["log_ratio"], 5) for one in found if "log_ratio" in one],
    )


# When the rule of another tool fails a case, given the rounds of its base and of its head.
DETECTORS: dict[str, Callable[[Sequence[float], Sequence[float]], Any]] = {
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


def time_versions(
    protocol: Mapping[str, Any], cases: Sequence[KernelCase], *versions: Version
) -> list[Rounds]:
    """Time versions in processes of their own, as a protocol of `trials.toml` says."""
    found = [defaultdict[str, list[float]](list) for _ in versions]
    order = [*range(len(versions))] * protocol["processes"]
    for number in order if protocol["interleaved"] else sorted(order):
        spec = Spec({HEAD: str(versions[number].folder)}, cases)
        _, block = run_block(spec, f"{__package__}.worker", json.dumps(protocol))
        for name, event in block.items():
            found[number][name] += event["rounds"]
    return [*found]


def judge(rules: Mapping[str, str], base: Rounds, head: Rounds) -> dict[str, list[str]]:
    """Return the cases that each rule fails; a rule is one of `DETECTORS`, by what it is called."""
    return {
        rule: [name for name in base if DETECTORS[detector](base[name], head[name])]
        for rule, detector in rules.items()
    }
