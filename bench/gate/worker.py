"""One fresh process of the gate: both sides of `mlr` in it, each case's two calls in turns.

`python -m bench.gate.worker SPEC` prints one JSON line an event: `refused`, where a side cannot be
used, or `kernels`, what each side has; then `start` before a case and `done` after it. A process
that dies so names the case it died at.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mlr import OPERATIONS, Case, Problem, check

from ..common.errors import in_one_line
from ..common.garbage import gc_paused
from ..machine.devices import Call
from ..measure.memory import is_out_of_memory, weigh
from ..measure.paired import LocalTarget, PairedRatio, paired_ratio
from ..measure.timing import repeats_of, seconds_per_call, time_batch, warm_up
from .versions import load

OLD, NEW = "old", "new"
REFRESHED_BYTES = 2**18
ROUNDS = 30
TRIES = 3


def _product(_: Sequence[int], a: Sequence[int], b: Sequence[int], *__: Any, **___: Any) -> int:
    return 2 * math.prod(a) * b[-1]


# Products that torch's counter leaves out.
IN_PLACE: dict[Any, Any] = {torch.ops.aten.addmm_: _product, torch.ops.aten.baddbmm_: _product}


@dataclass(frozen=True, slots=True)
class Entry:
    """One kernel on one case, as a gate names it."""

    kernel: str
    case: Case

    @property
    def name(self) -> str:
        """Its id, `matmul-cpu-float64-33x6x3`: a kernel belongs to one stage."""
        return f"{self.kernel}-{self.case.id}"


@dataclass(frozen=True, slots=True)
class Extra:
    """Work that a trial adds to every call of the head: so many operations on so many numbers."""

    count: int
    numbers: int


@dataclass(slots=True)
class Spec:
    """What a block is to do.

    Attributes:
        base: Folder of the old side.
        head: Folder of the new side.
        entries: The cases, in their order.
        examine: Check, weigh and count on this side, `old` or `new`, instead of timing.
        serve: Load this side alone, and time slices of its calls when the parent asks.
        rounds: Time the new side's calls by themselves, as other tools do.
        shares: Find the work that slows the new side's calls by each of these shares.
        seed: Seed of the inputs and of the order of slices.
        control: The case whose old side is also held against itself.
        extra: Work added to the head's calls, by the case's name.
    """

    base: str
    head: str
    entries: list[Entry]
    examine: str | None = None
    serve: str | None = None
    rounds: bool = False
    shares: list[float] = field(default_factory=list)
    seed: int = 0
    control: str | None = None
    extra: dict[str, Extra] = field(default_factory=dict)

    def serving(self, which: str, entries: Sequence[Entry]) -> Spec:
        """Return the specification of a process that serves one side of some cases."""
        return replace(self, serve=which, entries=list(entries))

    def as_json(self) -> str:
        """Return it as text for the child."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Read it back."""
        raw = json.loads(text)
        raw["entries"] = [Entry(e["kernel"], Case(**e["case"])) for e in raw["entries"]]
        raw["extra"] = {name: Extra(**work) for name, work in raw["extra"].items()}
        return cls(**raw)


def with_extra(call: Call, work: Extra | None) -> Call:
    """Return the call with the work added to it, or the call itself."""
    if work is None:
        return call
    numbers, count = torch.ones(work.numbers), work.count

    def slowed() -> Any:
        for _ in range(count):
            numbers.neg_()
        return call()

    return slowed


def require_registry(side: ModuleType) -> None:
    """Hold a side against what the harness needs of it.

    Raises:
        TypeError: If its kernels are not what this harness can bind.
    """
    kernels = getattr(side, "KERNELS", None)
    if not isinstance(kernels, dict):
        raise TypeError("its package mlr has no table of kernels, KERNELS")
    for kernel in kernels.values():
        if not (callable(getattr(kernel, "bind", None)) and hasattr(kernel, "unsupported")):
            raise TypeError(f"its kernels are of another kind ({type(kernel).__name__})")


def examine(entry: Entry, side: ModuleType) -> dict[str, Any]:
    """Hold a side's kernel against the oracle, weigh it, and count its operations."""
    kernel = side.KERNELS[entry.kernel]
    if (reason := kernel.unsupported(entry.case)) is not None:
        return {"status": "unsupported", "reason": reason}
    try:
        problem = Problem(entry.case)
        call = kernel.bind(problem)
        result = check(kernel, problem, call)
        if result.reason is None:
            problem.resample(entry.case.seed + 1)
            result = check(kernel, problem, call)
        if result.reason is not None:
            return {"status": "wrong", "reason": result.reason}
        with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
            call()
        memory = weigh(kernel, Problem(entry.case))
    except Exception as error:
        return {
            "status": "oom" if is_out_of_memory(error) else "crashed",
            "reason": in_one_line(error),
        }
    return {
        "status": "ok",
        "flops": int(counter.get_total_flops()),
        "peak_bytes": memory.peak_bytes,
        "leak_bytes": memory.leak_bytes,
    }


def compare(entry: Entry, base: ModuleType, head: ModuleType, spec: Spec) -> dict[str, Any]:
    """Time the head's call against the base's; where asked, also the base's against its own."""
    problem = Problem(entry.case)
    problem.seed = spec.seed
    sides = [base, head]
    random.Random(spec.seed).shuffle(sides)  # whose tensors come first in memory is chance
    calls = {side: side.KERNELS[entry.kernel].bind(problem.share_inputs()) for side in sides}
    new = with_extra(calls[head], spec.extra.get(entry.name))
    found = _ratio(new, calls[base], problem, spec.seed)
    if spec.control == entry.name:
        same = base.KERNELS[entry.kernel].bind(problem.share_inputs())
        found["control"] = _ratio(same, calls[base], problem, spec.seed)["log_ratio"]
    return found


def _ratio(new: Call, old: Call, problem: Problem, seed: int) -> dict[str, Any]:
    device = problem.case.device
    about_s = warm_up(new, device)

    def refresh(quad: int) -> None:
        problem.resample(seed + quad + 1)

    small = problem.case.input_bytes <= REFRESHED_BYTES
    small = small and not OPERATIONS[problem.case.stage].trains
    pair = paired_ratio(
        new, old, device, f_seconds=about_s, seed=seed, refresh=refresh if small else None
    )
    return values_of(pair)


def values_of(pair: PairedRatio) -> dict[str, Any]:
    """Return what a block says of the new side's call against the old one's."""
    return {"log_ratio": pair.log_ratio, "new_s": pair.f_median_s, "old_s": pair.g_median_s}


def time_rounds(entry: Entry, side: ModuleType, spec: Spec) -> dict[str, Any]:
    """Time a side's call in rounds of one process, as a stock tool does."""
    problem, device = Problem(entry.case), entry.case.device
    call = side.KERNELS[entry.kernel].bind(problem)
    call = with_extra(call, spec.extra.get(entry.name))
    repeats = repeats_of(warm_up(call, device))
    return {"rounds": [time_batch(call, repeats, device).seconds for _ in range(ROUNDS)]}


def calibrate(entry: Entry, side: ModuleType, spec: Spec) -> dict[str, Any]:
    """Find the work that makes a call slower by each share of `spec.shares`.

    A few operations beside a call cost it more than alone in a loop, by what they put in its
    caches: so the work is tried on the call itself, and corrected by what it took.
    """
    device = entry.case.device
    call = side.KERNELS[entry.kernel].bind(Problem(entry.case))
    about_s = warm_up(call, device)

    def alone_s(count: int, numbers: int) -> float:
        return seconds_per_call(with_extra(lambda: None, Extra(count, numbers)), device)

    op_s = (alone_s(20, 1) - alone_s(0, 1)) / 20
    number_s = (alone_s(1, 20_000) - alone_s(1, 1)) / 20_000
    found = {}
    for share in spec.shares:
        wanted_s = share * about_s
        for _ in range(TRIES):
            count = max(1, int(wanted_s / op_s))
            work = Extra(count, max(1, round((wanted_s / count - op_s) / number_s)))
            taken = paired_ratio(with_extra(call, work), call, device, blocks=40, budget_s=1.0)
            wanted_s *= min(2.0, max(0.5, share / max(taken.ratio - 1, 0.2 * share)))
        found[str(share)] = {"seconds": wanted_s, "work": asdict(work)}
    return {"found": found}


def _say(event: str, **content: Any) -> None:
    print(json.dumps({"event": event, **content}), flush=True)


def serve(entry: Entry, side: ModuleType, spec: Spec) -> dict[str, Any]:
    """Get a side's call ready, then do what the parent asks on the standard input."""
    problem = Problem(entry.case)
    problem.seed = spec.seed
    call = side.KERNELS[entry.kernel].bind(problem)
    extra = spec.extra.get(entry.name) if spec.serve == NEW else None
    ready = LocalTarget(with_extra(call, extra), entry.case.device)
    _say("ready", about_s=ready.about_s, calls=ready.calls)
    for line in sys.stdin:
        if json.loads(line)["do"] == "next":
            break
        _say("slice", **ready.time_batch()._asdict())
    return {}


def _measure(entry: Entry, sides: dict[str, ModuleType], spec: Spec) -> dict[str, Any]:
    if spec.examine is not None:
        return {"examined": examine(entry, sides[spec.examine])}
    if spec.rounds:
        return time_rounds(entry, sides[NEW], spec)
    if spec.serve is not None:
        return serve(entry, sides[spec.serve], spec)
    if spec.shares:
        return calibrate(entry, sides[NEW], spec)
    return compare(entry, sides[OLD], sides[NEW], spec)


def main(path: str) -> None:
    """Do what a specification says; see the module."""
    spec = Spec.from_json(Path(path).read_text(encoding="utf-8"))
    sides: dict[str, ModuleType] = {}
    for which, folder in ((OLD, spec.base), (NEW, spec.head)):
        if which != (spec.serve or spec.examine or which):
            continue
        try:
            sides[which] = load(Path(folder), f"mlr_{which}")
            require_registry(sides[which])
        except Exception as error:
            _say("refused", reason=f"the {which} side cannot be used: {in_one_line(error)}")
            return
    _say("kernels", **{which: _stages(side) for which, side in sides.items()})
    with gc_paused():
        for entry in spec.entries:
            if all(entry.kernel in side.KERNELS for side in sides.values()):
                _say("start", case=entry.name)
                _say("done", case=entry.name, **_measure(entry, sides, spec))


def _stages(side: ModuleType) -> dict[str, str]:
    return {name: kernel.stage for name, kernel in side.KERNELS.items()}


if __name__ == "__main__":
    main(sys.argv[1])
