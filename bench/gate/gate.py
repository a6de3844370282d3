"""Old code against new: examine both sides, measure blocks until all is decided, and judge."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mlr import Case

from ..common.errors import UserError
from ..common.units import counted
from ..machine.devices import device_of
from ..measure.clock import wall_clock
from ..plan.benchmark import planned
from ..plan.feasibility import foretell
from ..plan.selection import Selection
from .budget import too_short
from .process import Child
from .sequential import (
    CANNOT_TELL,
    FIRST_LOOK,
    SLOWER,
    Deciding,
    Finding,
    Rule,
    found_in,
    lower_bound,
    upper_bound,
)
from .two_environments import measure_apart
from .versions import Side, of_kernel_file
from .worker import NEW, OLD, Entry, Extra, Spec

MOST_DEATHS = 2  # of blocks at one case, before it counts as one that cannot be measured
OK, SLOW, UNDECIDED, NOISY = 0, 1, 3, 4
CONTROL = "old against old"


@dataclass(frozen=True)
class Options:
    """How a gate goes about it.

    Attributes:
        rule: What counts as slower, unless a kernel has its own.
        rules: Rules of single kernels, by name.
        allowed: Kernels that may vanish, fail, or take more memory or operations.
        budget_s: Seconds after which no further block is begun.
        thorough: Whether to take more blocks for what stays undecided.
        seed: Seed of the inputs and orders.
        extra: Work that a trial adds to calls of the head, by the case's name.
        pythons: The interpreters of two environments; None for one process with both sides.
        kernels: The kernels asked for by name; None for all.
    """

    rule: Rule = field(default_factory=Rule)
    rules: Mapping[str, Rule] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()
    budget_s: float = 600.0
    thorough: bool = False
    seed: int = 0
    extra: Mapping[str, Extra] = field(default_factory=dict)
    pythons: tuple[str, str] | None = None
    kernels: Collection[str] | None = None

    def wants(self, kernel: str) -> bool:
        """Say whether a kernel is among those asked for."""
        return self.kernels is None or kernel in self.kernels


class Judged(NamedTuple):
    """One case at the end.

    Attributes:
        entry: The kernel and the case.
        finding: What its times say; None where it was not timed.
        faults: What fails it whatever its times say, in sentences.
        notes: What is worth knowing besides.
        allowed: Whether its kernel may fail.
    """

    entry: Entry
    finding: Finding | None
    faults: list[str]
    notes: list[str]
    allowed: bool = False


@dataclass
class Verdict:
    """What a gate found; its notes are sentences on the whole of it."""

    cases: list[Judged]
    vanished: list[str]
    new: list[str]
    control: Finding | None
    noisy: bool
    blocks: int
    wall_s: float
    recorded: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        """The exit status: 0 no slow-down, 1 slower, 3 cannot tell, 4 the machine is too noisy."""
        if self.vanished or any(case.faults for case in self.cases):
            return SLOW
        verdicts = {case.finding.verdict for case in self.cases if case.finding is not None}
        if self.noisy and verdicts & {SLOWER, CANNOT_TELL}:
            return NOISY
        if SLOWER in verdicts:
            return SLOW
        return UNDECIDED if CANNOT_TELL in verdicts else OK


@dataclass
class Progress:
    """How far a gate is, for whoever shows it."""

    doing: str
    blocks: int
    open: int
    total: int


class Blocks:
    """Starts the processes that measure, and takes in what they say.

    Attributes:
        kernels: The stage of each kernel, of the old side and of the new, once examined.
    """

    def __init__(self, base: Side, head: Side, options: Options) -> None:
        self.base, self.head, self.options = base, head, options
        self.kernels: dict[str, dict[str, str]] = {}

    def run(
        self, entries: Sequence[Entry], *, python: str | None = None, **what: Any
    ) -> dict[str, dict[str, Any]]:
        """Measure the cases in one fresh process; one that dies loses the case it was at.

        Returns:
            What was found, by the case's name; `{"died": reason}` where the process died. A case
            whose kernel a side lacks is left out.
        """
        done = {}
        with Child(self._spec(entries, **what), python) as child:
            while (event := child.read()) is not None:
                match event.pop("event"):
                    case "kernels":
                        self.kernels |= event
                    case "done":
                        done[event["case"]] = event
                    case "died":
                        done[event["case"]] = {"died": event["reason"]}
                        break
        return done

    def time(
        self, entries: Sequence[Entry], seed: int, control: str, extra: dict[str, Extra]
    ) -> dict[str, dict[str, Any]]:
        """Time the cases' new side against their old one, in one process or in two by turns."""
        pythons = self.options.pythons
        if pythons is None:
            return self.run(entries, seed=seed, control=control, extra=extra)
        spec = self._spec(entries, seed=seed, extra=extra)
        return measure_apart(spec, entries, pythons, control)

    def _spec(self, entries: Sequence[Entry], **what: Any) -> Spec:
        return Spec(str(self.base.folder), str(self.head.folder), list(entries), **what)


class Examined(NamedTuple):
    """What an examination found of both sides of a case."""

    old: dict[str, Any]
    new: dict[str, Any]


def examine(blocks: Blocks, entries: Sequence[Entry]) -> dict[str, Examined]:
    """Examine every case that both sides have, both sides at once: nothing is timed."""
    with ThreadPoolExecutor() as both:
        old, new = both.map(lambda side: _examine_side(blocks, entries, side), (OLD, NEW))
    return {name: Examined(old[name], new[name]) for name in old if name in new}


def _examine_side(blocks: Blocks, entries: Sequence[Entry], side: str) -> dict[str, dict[str, Any]]:
    """Examine one side; a case that kills its process costs only itself."""
    python = blocks.options.pythons[side == NEW] if blocks.options.pythons else None
    found: dict[str, dict[str, Any]] = {}
    left = list(entries)
    while left:
        found.update(blocks.run(left, python=python, examine=side))
        has = blocks.kernels[side]
        left = [entry for entry in left if entry.name not in found and entry.kernel in has]
    return {
        name: one.get("examined") or {"status": "crashed", "reason": one["died"]}
        for name, one in found.items()
    }


def run_gate(
    planned: Sequence[Entry],
    base: Side,
    head: Side,
    options: Options,
    show: Callable[[Progress], None],
) -> Verdict:
    """Hold the head against the base on every case.

    Args:
        planned: The cases; those of a kernel that a side lacks are left out.
        base: The old side.
        head: The new side.
        options: See there.
        show: Called now and then with the progress.

    Raises:
        UserError: If no case can be compared, or the working tree changed meanwhile.
    """
    start = wall_clock()
    blocks = Blocks(base, head, options)
    show(Progress("examining", 0, len(planned), len(planned)))
    examined = examine(blocks, planned)
    old, new = blocks.kernels[OLD], blocks.kernels[NEW]
    stages = {entry.case.stage for entry in planned}
    by_name = {entry.name: entry for entry in planned if entry.name in examined}
    vanished = [k for k in old if k not in new and old[k] in stages and options.wants(k)]
    if not vanished and not any(one.old["status"] == "ok" for one in examined.values()):
        raise UserError(_nothing_common(examined, base, head))
    fit = [name for name in by_name if _both_ok(examined[name])]
    rules = {name: options.rules.get(by_name[name].kernel, options.rule) for name in fit}
    timing = _Timing(blocks, by_name, Deciding(rules, thorough=options.thorough), start, show)
    timing.go_on()
    for side in (base, head):
        side.require_unchanged()
    return Verdict(
        cases=[
            timing.judged(name, *_faults(entry, examined[name], options.allowed))
            for name, entry in by_name.items()
        ],
        vanished=[kernel for kernel in vanished if kernel not in options.allowed],
        new=[k for k in new if k not in old and new[k] in stages and options.wants(k)],
        control=timing.control_finding(),
        noisy=timing.is_noisy(),
        blocks=timing.count,
        wall_s=wall_clock() - start,
        recorded=timing.recorded,
        notes=[*of_kernel_file(base, head), *timing.notes()],
    )


class _Timing:
    """The blocks of a gate, one after the other, until its cases are decided or time is up."""

    def __init__(
        self,
        blocks: Blocks,
        by_name: Mapping[str, Entry],
        deciding: Deciding,
        start: float,
        show: Callable[[Progress], None],
    ) -> None:
        self.blocks, self.by_name, self.deciding = blocks, by_name, deciding
        self.start, self.show = start, show
        self.chance = random.Random(blocks.options.seed)
        self.count = 0
        self.reached_s: list[float] = []
        self.is_late = False
        self.control: list[float] = []
        self.deaths: Counter[str] = Counter()
        self.died: dict[str, str] = {}
        self.recorded: list[dict[str, Any]] = []

    def go_on(self) -> None:
        """Measure until every case has its verdict."""
        while wanted := self.deciding.wanted():
            stage = "screening" if self.deciding.suspects is None else "confirming"
            self.show(Progress(stage, self.count, len(wanted), len(self.deciding.cases)))
            self.reached_s.append(wall_clock() - self.start)
            self.is_late = self.reached_s[-1] > self.blocks.options.budget_s
            if self.is_late:
                break
            self._block(wanted)
        self.deciding.close()

    def _block(self, wanted: list[str]) -> None:
        self.chance.shuffle(wanted)
        found: dict[str, dict[str, Any]] = {}
        seed, control = self.chance.randrange(2**31), self.chance.choice(wanted)
        while left := [name for name in wanted if name not in found]:
            entries = [self.by_name[name] for name in left]
            extra = {n: w for n, w in self.blocks.options.extra.items() if n in left}
            found.update(self.blocks.time(entries, seed, control, extra))
        self.count += 1
        for name, one in found.items():
            if "died" in one:
                self.deaths[name] += 1
                self.died[name] = one["died"]
                if self.deaths[name] == MOST_DEATHS:
                    self.deciding.give_up(name)
        self.recorded.append(found)
        self.control += [one["control"] for one in found.values() if "control" in one]
        self.deciding.add({n: one["log_ratio"] for n, one in found.items() if "log_ratio" in one})

    def judged(self, name: str, faults: list[str], notes: list[str]) -> Judged:
        """Put what is known of a case's times beside what its examination showed."""
        finding = self.deciding.finding(name) if name in self.deciding.cases else None
        died = [f"while timed: {self.died[name]}"] if name in self.died else []
        entry = self.by_name[name]
        allowed = entry.kernel in self.blocks.options.allowed
        return Judged(entry, finding, faults, [*notes, *died], allowed)

    def control_finding(self) -> Finding | None:
        """Return what old against old showed."""
        if not self.control:
            return None
        return found_in(self.control, self.blocks.options.rule, CONTROL)

    def notes(self) -> list[str]:
        """Say what a budget lacked that ended before all was decided."""
        options = self.blocks.options
        if not self.is_late:
            return []
        return [too_short(options.budget_s, self.reached_s, thorough=options.thorough)]

    def is_noisy(self) -> bool:
        """Say whether old against old differs, or could not be told to be alike."""
        if len(self.control) < FIRST_LOOK:
            return False
        rule = self.blocks.options.rule
        reach = math.log1p(rule.tolerance)
        differs = (
            lower_bound(self.control, rule.alpha / 2) > reach
            or upper_bound(self.control, rule.alpha / 2) < -reach
        )
        return differs or upper_bound(self.control, rule.beta) > math.log1p(rule.target)


def _both_ok(one: Examined) -> bool:
    return all(side["status"] == "ok" for side in one)


def _nothing_common(examined: Mapping[str, Examined], *sides: Side) -> str:
    why = next(
        (side.get("reason") for one in examined.values() for side in one if side.get("reason")),
        "no kernel is on both sides",
    )
    lacking = (
        f"; {side.lacks} is not in {side.text}: commit it, and give a revision that has it"
        for side in sides
        if side.lacks is not None
    )
    return (
        f"a gate needs a case that is right on both sides; there is none: {why}{''.join(lacking)}"
    )


def _faults(entry: Entry, one: Examined, allowed: frozenset[str]) -> tuple[list[str], list[str]]:
    """Return what fails a case whatever its times say, and what is worth a note."""
    old, new = one
    faults: list[str] = []
    notes: list[str] = []
    if new["status"] != "ok":
        said = f"{new['status']}: {new['reason']}"
        (faults if old["status"] == "ok" else notes).append(said)
    elif old["status"] != "ok":
        notes.append(f"was {old['status']}: {old['reason']}")
    else:
        for what, unit, slack in _EXACT:
            more = new[what] - old[what]
            if more > slack(entry.case):
                faults.append(f"{unit}: {new[what]:,} instead of {old[what]:,}")
            elif more < 0:
                notes.append(f"{unit}: {new[what]:,} instead of {old[what]:,}")
    if entry.kernel in allowed:
        return [], [*notes, *(f"allowed: {fault}" for fault in faults)]
    return faults, notes


def _cuda_blocks(case: Case) -> int:
    """Return the slack of a caching allocator, which rounds each block up to 512 bytes."""
    return device_of(case.device).block_slack_bytes


def _none(case: Case) -> int:
    return 0


_EXACT: tuple[tuple[str, str, Callable[[Case], int]], ...] = (
    ("peak_bytes", "bytes at peak", _cuda_blocks),
    ("leak_bytes", "bytes leaked by a call", _cuda_blocks),
    ("flops", "operations of a call", _none),
)


def comparable(axes: Selection) -> list[Entry]:
    """Return the planned cases that this machine can hold.

    Raises:
        UserError: It can hold none of them.
    """
    told = [(one, foretell(one, None, math.inf)) for one in planned(axes)]
    found = [Entry(one.kernel.name, one.case) for one, said in told if said.status == "ok"]
    if not found:
        one, said = told[0]
        raise UserError(
            f"a gate needs a case that this machine can measure; of {counted(len(told), 'case')} "
            f"it can none: {one.id} is {said.status}, {said.reason}"
        )
    return found
