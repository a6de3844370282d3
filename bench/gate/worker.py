"""One fresh process of the gate: `python -m bench.gate.worker compare` or `verify`.

Its first line of input is a `Spec`. It prints one JSON line an event: `refused`, where a version
cannot be used, or `kernels`, what each version has; then `start` before a case and `done` after it.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mlr import Problem, check

from ..common.errors import in_one_line
from ..common.garbage import gc_paused
from ..machine.devices import Call
from ..measure.memory import is_out_of_memory, measure_memory
from ..measure.paired import PairedRatio, paired_ratio
from ..measure.timing import warm_up
from .exact import EXACT_METRICS, Examination, Verified
from .loading import VersionKernel, load_kernels
from .spec import BASE, HEAD, SPEC, KernelCase, Spec
from .verdict import OK

REFRESHED_BYTES = 2**18
Kernels = Mapping[str, VersionKernel]  # of one case, by the version that each is of
Measure = Callable[[KernelCase, Kernels, Spec], dict[str, Any]]


def _product(_: Sequence[int], a: Sequence[int], b: Sequence[int], *__: Any, **___: Any) -> int:
    return 2 * math.prod(a) * b[-1]


# Products that torch's counter leaves out.
IN_PLACE: dict[Any, Any] = {torch.ops.aten.addmm_: _product, torch.ops.aten.baddbmm_: _product}


def verify(one: KernelCase, kernels: Kernels, spec: Spec) -> dict[str, Any]:
    """Check a kernel against the oracle, and measure what is compared exactly."""
    (kernel,) = kernels.values()
    return _verified(kernel, one)._asdict()


def _verified(kernel: Any, one: KernelCase) -> Verified:
    if (reason := kernel.unsupported(one.case)) is not None:
        return Verified("unsupported", reason)
    try:
        problem = Problem(one.case)
        call = kernel.bind(problem)
        result = check(kernel, problem, call)
        if result.reason is None:
            problem.resample(one.case.seed + 1)
            result = check(kernel, problem, call)
        if result.reason is not None:
            return Verified("wrong", result.reason)
        with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
            call()
        found = Examination(
            int(counter.get_total_flops()), measure_memory(kernel, Problem(one.case))
        )
    except Exception as error:
        if one.case.device != "cpu" and not is_out_of_memory(error):
            raise  # the device's context may be lost: the next case gets a process of its own
        return Verified("oom" if is_out_of_memory(error) else "crashed", in_one_line(error))
    return Verified(OK, None, {metric.name: metric.read(found) for metric in EXACT_METRICS})


def compare(one: KernelCase, kernels: Kernels, spec: Spec) -> dict[str, Any]:
    """Time the head's call against the base's; where asked, also the base's against its own."""
    problem = Problem(one.case)
    problem.seed = spec.seed
    order = [BASE, HEAD]
    random.Random(spec.seed).shuffle(order)  # whose tensors come first in memory is chance
    calls = {name: kernels[name].bind(problem.share_inputs()) for name in order}
    found = ratio_event(_ratio(calls[HEAD], calls[BASE], problem, spec.seed))
    if spec.control == one.name:
        same = kernels[BASE].bind(problem.share_inputs())
        found["control"] = _ratio(same, calls[BASE], problem, spec.seed).log_ratio
    return found


def _ratio(head: Call, base: Call, problem: Problem, seed: int) -> PairedRatio:
    device = problem.case.device
    about_s = warm_up(head, device)

    def refresh(number: int) -> None:
        problem.resample(seed + number + 1)

    small = problem.case.input_bytes <= REFRESHED_BYTES and problem.case.operation == "gradient"
    return paired_ratio(
        head, base, device, f_seconds=about_s, seed=seed, refresh=refresh if small else None
    )


def ratio_event(pair: PairedRatio) -> dict[str, Any]:
    """Return what a block says of the head's call against the base's."""
    return {"log_ratio": pair.log_ratio, "head_s": pair.f_median_s, "base_s": pair.g_median_s}


def say(event: str, **content: Any) -> None:
    """Report an event to the parent."""
    print(json.dumps({"event": event, **content}), flush=True)


def work(measure: Measure) -> None:
    """Read a specification, load its versions, and measure the cases that all of them have."""
    spec = SPEC.validate_json(sys.stdin.readline())
    loaded: dict[str, dict[str, VersionKernel]] = {}
    for name, folder in spec.folders.items():
        try:
            loaded[name] = load_kernels(Path(folder), f"mlr_{name}")
        except Exception as error:
            say("refused", reason=f"the {name} version cannot be used: {in_one_line(error)}")
            return
    say("kernels", **{name: _operations(kernels) for name, kernels in loaded.items()})
    with gc_paused():
        for one in spec.cases:
            if all(one.kernel in kernels for kernels in loaded.values()):
                say("start", case=one.name)
                own = {name: kernels[one.kernel] for name, kernels in loaded.items()}
                say("done", case=one.name, **measure(one, own, spec))


def _operations(kernels: Mapping[str, VersionKernel]) -> dict[str, str]:
    return {name: kernel.operation for name, kernel in kernels.items()}


if __name__ == "__main__":
    work({"compare": compare, "verify": verify}[sys.argv[1]])
