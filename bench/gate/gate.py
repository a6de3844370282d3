"""Base against head: verify both, measure blocks until all cases are decided, and judge."""

import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from ..common.errors import UserError
from ..common.units import counted
from ..machine.environment import THREADS
from ..measure.timing import wall_clock
from ..plan.benchmark import free_bytes_of_new_process, planned, predict
from ..plan.selection import Selection
from .blocks import (
    BASE,
    CONTROL,
    HEAD,
    WORKER,
    Found,
    KernelCase,
    Spec,
    measure_block,
    run_block,
    sharing_fails,
)
from .config import GateConfig, name_of
from .sequential import CaseState, SequentialTest, explain_timeout
from .verdict import OK, Verdict, Verified, judge
from .versions import Version

MAX_CRASHES = 2  # of blocks at one case, before it counts as one that cannot be measured
Show = Callable[[str], None]  # of how far a gate is


@dataclass(frozen=True)
class Options:
    """How a gate goes about it."""

    config: GateConfig = field(default_factory=GateConfig)
    max_time_s: float = 600.0  # after which no further block is begun
    seed: int = 0  # of the inputs and orders
    pythons: Mapping[str, str] = field(default_factory=dict)  # one process for both where empty
    kernels: Collection[str] | None = None  # those asked for by name; None for all
    operations: Collection[str] | None = None  # likewise
    threads: int = THREADS  # of every process
    kernel_files: Sequence[str] = ()  # of the user's
    packages: Sequence[str] = ()  # that are compared, by their paths; none of `mlr` itself


def feasible_benchmarks(
    axes: Selection, *, own_only: bool = False
) -> tuple[list[KernelCase], list[str]]:
    """Return the planned cases that this machine can hold, and say which are left out.

    With `own_only` the kernels of `mlr` are among them only where they are named.

    Raises:
        UserError: It can hold none of them.
    """
    left_out: dict[str, list[str]] = {}
    is_own_only = own_only and not axes.kernel
    plan = [one for one in planned(axes) if not (is_own_only and one.kernel.built_in)]
    found = []
    for one in plan:
        told = predict(one, free_bytes=free_bytes_of_new_process)
        if told.status == OK:
            found.append(KernelCase(one.kernel.key, one.case))
        else:
            kind = told.status if told.status == "infeasible" else str(told.reason)
            left_out.setdefault(kind, []).append(f"{one.id} is {told.status}, {told.reason}")
    notes = [
        f"{len(some)} of {counted(len(plan), 'planned case')} left out: {some[0]}"
        for some in left_out.values()
    ]
    if not found:
        why = "; ".join(notes) or "none of the packages' own kernels is for it: see --device"
        raise UserError(f"a gate needs a case that this machine can measure; {why}")
    return found, notes


def run_gate(
    cases: Sequence[KernelCase], base: Version, head: Version, options: Options, show: Show
) -> Verdict:
    """Compare the head with the base on every case whose kernel both have; `show` progress.

    Raises:
        UserError: If no case can be compared.
    """
    start, config, spec = wall_clock(), options.config, _spec(cases, base, head, options)
    options, notes = _with_processes(spec, options, show)
    spec = replace(spec, alone=bool(spec.packages and options.pythons))
    show(f"verifying {counted(len(cases), 'case')}")
    # One after the other: at the same time they could need more memory than there is.
    (old_kernels, old), (new_kernels, new) = (_verify(name, spec, options) for name in (BASE, HEAD))
    asked = {one.case.operation for one in cases}
    if options.operations is None:  # then also those that were removed
        asked |= {*old_kernels.values()} - {*new_kernels.values()}

    def only(mine: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
        named = options.kernels or map(name_of, mine)
        known = {*named}
        return [k for k in mine if k not in others and mine[k] in asked and name_of(k) in known]

    removed = only(old_kernels, new_kernels)
    common = [one for one in cases if one.name in old and one.name in new]
    if not removed and all(old[one.name].failure for one in common):
        why = old[common[0].name].failure if common else "no kernel is in both versions"
        raise UserError(f"a gate needs a case that is right in both versions; there is none: {why}")
    right = [one for one in common if not (old[one.name].failure or new[one.name].failure)]
    blocks, test, left_open = _measure_blocks(replace(spec, cases=right), options, start, show)
    notes += [*left_open, *_notes_on_judges(old, new)]
    controls = [one["control"] for block in blocks for one in block.values() if "control" in one]
    state = CaseState(config.thresholds, controls)
    if (estimate := state.estimate()) is not None:
        found = f"{estimate} in {counted(estimate.blocks, 'block')}"
        notes.insert(0, f"A/A control, the base against a copy of it: {found}")
    judged = []
    for one in common:
        events = [block[one.name] for block in blocks if one.name in block]
        both, allowed = (old[one.name], new[one.name]), config.is_allowed(one.kernel)
        judged.append(judge(one, *both, test.cases.get(one.name), events, allowed))
    return Verdict(
        cases=judged,
        removed=[kernel for kernel in removed if not config.is_allowed(kernel)],
        added=only(new_kernels, old_kernels),
        control=estimate,
        noisy=state.is_noisy,
        wall_s=wall_clock() - start,
        blocks=blocks,
        notes=notes,
    )


def _spec(cases: Sequence[KernelCase], base: Version, head: Version, options: Options) -> Spec:
    """Return what processes are to do, with another copy of the base as the control."""
    control = base.folder.with_name(CONTROL)
    again = shutil.copytree(base.folder, control, dirs_exist_ok=True, symlinks=True)
    folders = {BASE: str(base.folder), HEAD: str(head.folder), CONTROL: str(again)}
    return Spec(folders, cases, threads=options.threads, kernel_files=options.kernel_files,
                packages=options.packages)  # fmt: skip


def _with_processes(spec: Spec, options: Options, show: Show) -> tuple[Options, list[str]]:
    """Try packages of both versions in one process, and give each its own where that fails.

    Return the options for it, and what there is to say.
    """
    if not options.packages:
        return options, []
    named = ", ".join(PurePosixPath(one).name for one in options.packages)
    if not options.pythons:
        show("loading both versions into one process")
        if (why := sharing_fails(spec)) is None:
            return options, [f"Both versions of {named} take turns in one process."]
        options = replace(options, pythons=dict.fromkeys((BASE, HEAD), sys.executable))
    else:
        why = "they have an interpreter each"
    return options, [f"Each version of {named} has a process of its own, in turns: {why}."]


def _notes_on_judges(old: Mapping[str, Verified], new: Mapping[str, Verified]) -> list[str]:
    """Say so where the base did not judge results: its own, or those of the head."""
    if not all(one.judged_by_base for one in old.values()):
        return ["The base cannot judge results: the oracle of this checkout does."]
    if not all(one.judged_by_base for one in new.values() if one.failure is None):
        return ["The head's oracle judges its results: the base's is not loaded beside it."]
    return []


def _verify(name: str, spec: Spec, options: Options) -> tuple[dict[str, str], dict[str, Verified]]:
    """Return the operations of a version's kernels, and what its verification found by case."""
    folders = {each: spec.folders[each] for each in ((name,) if spec.alone else (BASE, name))}
    own, python = replace(spec, folders=folders), options.pythons.get(name)
    kernels, found = run_block(own, WORKER, "verify", python=python)
    return kernels[name], {
        case: Verified(f"crashed: {one['crashed']}") if "crashed" in one else Verified(**one)
        for case, one in found.items()
    }


def _measure_blocks(
    spec: Spec, options: Options, start: float, show: Show
) -> tuple[list[Found], SequentialTest, list[str]]:
    """Measure until every case is decided; return also the test, and what a time limit lacked."""
    chance, cases = random.Random(options.seed), {one.name: one for one in spec.cases}
    config = options.config
    test = SequentialTest({name: config.thresholds_of(one.kernel) for name, one in cases.items()})
    blocks: list[Found] = []
    reached_s: list[float] = []
    while names := list(test.open_cases()):
        phase = "screening" if test.suspects is None else "confirming"
        total = counted(len(cases), "case")
        show(f"{phase}: block {len(blocks) + 1}, {len(names)} of {total} open")
        reached_s.append(wall_clock() - start)
        if reached_s[-1] > options.max_time_s:
            test.leave_open(names)
            return blocks, test, [explain_timeout(options.max_time_s, reached_s)]
        chance.shuffle(names)
        seed = 2 * chance.randrange(2**30) + len(blocks) % 2  # odd and even in turns
        control = chance.choice(names)
        own = replace(spec, cases=[cases[name] for name in names], seed=seed, control=control)
        found = measure_block(own, options.pythons)
        blocks.append(found)
        crashes = Counter(n for block in blocks for n, one in block.items() if "crashed" in one)
        test.leave_open(n for n in names if crashes[n] == MAX_CRASHES)
        test.add({n: one["log_ratio"] for n, one in found.items() if "log_ratio" in one})
    return blocks, test, []
