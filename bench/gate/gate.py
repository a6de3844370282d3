"""Base against head: verify both, measure blocks until all cases are decided, and judge."""

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from ..common.errors import UserError
from ..common.units import counted
from ..measure.timing import wall_clock
from ..plan.benchmark import planned
from ..plan.feasibility import predict
from ..plan.selection import Selection
from .blocks import BASE, HEAD, WORKER, Block, KernelCase, Spec, interleave_processes, run_block
from .config import GateConfig
from .sequential import SequentialTest, estimate, explain_timeout, is_noisy
from .verdict import OK, CaseVerdict, Verdict, Verified, compare_exactly
from .versions import Version

MAX_CRASHES = 2  # of blocks at one case, before it counts as one that cannot be measured
Show = Callable[[str], None]  # of how far a gate is
Both = tuple[Verified, Verified]  # of the base and the head


@dataclass(frozen=True)
class Options:
    """How a gate goes about it."""

    config: GateConfig = field(default_factory=GateConfig)
    max_time_s: float = 600.0  # after which no further block is begun
    thorough: bool = False  # more blocks for what stays open
    seed: int = 0  # of the inputs and orders
    pythons: Mapping[str, str] = field(default_factory=dict)  # one process for both where empty
    kernels: Collection[str] | None = None  # those asked for by name; None for all


def feasible_benchmarks(axes: Selection) -> tuple[list[KernelCase], list[str]]:
    """Return the planned cases that this machine can hold, and say which are left out.

    Raises:
        UserError: It can hold none of them.
    """
    left_out: dict[str, list[str]] = {}
    plan, found = planned(axes), []
    for one in plan:
        told = predict(one, None, math.inf)
        if told.status == OK:
            found.append(KernelCase(one.kernel.name, one.case))
        else:
            kind = told.status if told.status == "infeasible" else str(told.reason)
            left_out.setdefault(kind, []).append(f"{one.id} is {told.status}, {told.reason}")
    notes = [
        f"{len(some)} of {counted(len(plan), 'planned case')} left out: {some[0]}"
        for some in left_out.values()
    ]
    if not found:
        raise UserError(f"a gate needs a case that this machine can measure; {'; '.join(notes)}")
    return found, notes


def run_gate(
    cases: Sequence[KernelCase], base: Version, head: Version, options: Options, show: Show
) -> Verdict:
    """Compare the head with the base on every case whose kernel both have; `show` progress.

    Raises:
        UserError: If no case can be compared, or the working tree changed meanwhile.
    """
    start, config = wall_clock(), options.config
    show(f"verifying {counted(len(cases), 'case')}")
    spec = Spec({BASE: str(base.folder), HEAD: str(head.folder)}, cases)
    with ThreadPoolExecutor() as pool:
        old, new = pool.map(lambda name: _verify(name, spec, options), (BASE, HEAD))
    verified = {
        name: (Verified(**old.found[name]), Verified(**new.found[name]))
        for name in old.found
        if name in new.found
    }
    operations = {one.case.operation for one in cases}

    def only(mine: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
        named = options.kernels or mine
        return [k for k in mine if k not in others and mine[k] in operations and k in named]

    removed = only(old.kernels[BASE], new.kernels[HEAD])
    if not removed and not any(one.status == OK for one, _ in verified.values()):
        raise UserError(_nothing_common(verified, base, head))
    timing = _Timing(spec, verified, options, start, show)
    timing.measure()
    for version in (base, head):
        version.require_unchanged()
    return Verdict(
        cases=[timing.verdict_on(one) for one in cases if one.name in verified],
        removed=[kernel for kernel in removed if kernel not in config.allow_regression],
        added=only(new.kernels[HEAD], old.kernels[BASE]),
        control=estimate(timing.control, config.thresholds) if timing.control else None,
        noisy=is_noisy(timing.control, config.thresholds),
        wall_s=wall_clock() - start,
        blocks=timing.blocks,
        notes=timing.notes,
    )


def _verify(name: str, spec: Spec, options: Options) -> Block:
    """Verify one version; a case that ends its process costs only itself."""
    found: dict[str, dict[str, Any]] = {}
    while True:
        left = [one for one in spec.cases if one.name not in found]
        own = replace(spec, folders={name: spec.folders[name]}, cases=left)
        block = run_block(own, WORKER, "verify", python=options.pythons.get(name))
        found |= block.found
        crashes = {case: one["crashed"] for case, one in block.found.items() if "crashed" in one}
        if not crashes:
            return Block(block.kernels, found)
        found |= {case: Verified("crashed", why)._asdict() for case, why in crashes.items()}


def _nothing_common(verified: Mapping[str, Both], *versions: Version) -> str:
    reasons = (one.reason for both in verified.values() for one in both if one.reason)
    why = next(reasons, "no kernel is in both versions")
    lacking = [
        f"; {version.lacks} is not in {version.text}: commit it, and give a revision that has it"
        for version in versions
        if version.lacks is not None
    ]
    rule = "a gate needs a case that is right in both versions; there is none"
    return f"{rule}: {why}{''.join(lacking)}"


class _Timing:
    """The blocks of a gate, one after the other, until its cases are decided or time is up."""

    def __init__(
        self, spec: Spec, verified: Mapping[str, Both], options: Options, start: float, show: Show
    ) -> None:
        self.spec, self.options, self.start, self.show = spec, options, start, show
        self.verified = verified
        self.cases = {one.name: one for one in spec.cases}
        thresholds = {
            name: options.config.of(self.cases[name].kernel)
            for name, both in verified.items()
            if all(one.status == OK for one in both)
        }
        self.test = SequentialTest(thresholds, thorough=options.thorough)
        self.chance = random.Random(options.seed)
        self.control: list[float] = []
        self.crashes: dict[str, list[str]] = {name: [] for name in thresholds}
        self.blocks: list[Mapping[str, Any]] = []
        self.notes: list[str] = []

    def measure(self) -> None:
        """Measure until every case is decided, or note what a time limit lacked."""
        limit_s, thorough = self.options.max_time_s, self.options.thorough
        reached_s: list[float] = []
        while names := self.test.open_cases():
            phase = "screening" if self.test.suspects is None else "confirming"
            total = counted(len(self.test.cases), "case")
            self.show(f"{phase}: block {len(self.blocks) + 1}, {len(names)} of {total} open")
            reached_s.append(wall_clock() - self.start)
            if reached_s[-1] > limit_s:
                self.notes = [explain_timeout(limit_s, reached_s, thorough=thorough)]
                self.test.leave_open(names)
            else:
                self._measure_block(names)

    def _measure_block(self, names: list[str]) -> None:
        self.chance.shuffle(names)
        seed, control = self.chance.randrange(2**31), self.chance.choice(names)
        found: dict[str, dict[str, Any]] = {}
        while left := [self.cases[name] for name in names if name not in found]:
            own = replace(self.spec, cases=left, seed=seed, control=control)
            if self.options.pythons:
                found |= interleave_processes(own, self.options.pythons)
            else:
                found |= run_block(own, WORKER, "compare").found
        for name, one in found.items():
            if "crashed" in one:
                self.crashes[name].append(one["crashed"])
        self.test.leave_open(n for n, some in self.crashes.items() if len(some) == MAX_CRASHES)
        self.blocks.append(found)
        self.control += [one["control"] for one in found.values() if "control" in one]
        self.test.add({n: one["log_ratio"] for n, one in found.items() if "log_ratio" in one})

    def verdict_on(self, one: KernelCase) -> CaseVerdict:
        """Put what is known of a case's times beside what differs exactly."""
        state = self.test.cases.get(one.name)
        return CaseVerdict(
            one,
            state.decision if state else None,
            estimate(state.values, state.thresholds) if state else None,
            *compare_exactly(one.case, *self.verified[one.name]),
            one.kernel in self.options.config.allow_regression,
            next(reversed(self.crashes.get(one.name, [])), None),
        )
