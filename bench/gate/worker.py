"""One fresh process of the gate: `python -m bench.gate.worker`, and `compare`, `verify` or others.

Its first line of input is a `Spec`. It prints one JSON line an event: `refused`, where a version
cannot be used, or `kernels`, what each version has; then `start` before a case and `done` after it.
"""

import gc
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

import mlr
from mlr import OPERATIONS, Problem
from mlr.checks import is_out_of_memory

from ..common.errors import in_one_line
from ..common.garbage import gc_paused
from ..machine.devices import device_of
from ..measure.fresh_inputs import refresher
from ..measure.memory import measure_memory
from ..measure.ratio import LocalTarget
from ..measure.timing import first_call
from ..measure.work import count_work
from ..store.files import first_error
from .blocks import BASE, CONTROL, HEAD, SPEC, KernelCase, Spec, compare_calls
from .imports import FINDER, REFUSED
from .loading import VersionKernel, case_in, load_kernels
from .process_state import RANDOM, changes, process_state, shared_library

Kernels = Mapping[str, VersionKernel]  # of one case, by the version that each is of
Measure = Callable[[KernelCase, Kernels, Spec], dict[str, Any]]
NOT_COMMITTED = (
    "; what git ignores, and a submodule, is in no revision: have [tool.mlr-bench] build make it"
)


def _product(_: Sequence[int], a: Sequence[int], b: Sequence[int], *__: Any, **___: Any) -> int:
    return 2 * math.prod(a) * b[-1]


# Products that torch's counter leaves out.
IN_PLACE: dict[Any, Any] = {torch.ops.aten.addmm_: _product, torch.ops.aten.baddbmm_: _product}


def verify(one: KernelCase, kernels: Kernels, spec: Spec) -> dict[str, Any]:
    """Hold the head's kernel, or else the base's, against the base's oracle: a `Verified`.

    Where the head has the process to itself, that is its own.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports Triton, which no block needs

    kernel: Any = kernels.get(HEAD) or kernels[BASE]
    judge = kernels.get(BASE, kernel)
    oracle = judge.oracle
    if (reason := kernel.unsupported(one.case)) is not None:
        return {"failure": f"unsupported: {reason}"}
    device = device_of(one.case.device)
    try:
        problem = oracle.Problem(case_in(oracle, one.case))
        call = kernel.bind(problem)
        first = result = oracle.check(kernel, problem, call)
        if result.reason is None:
            result = oracle.check_on_other_inputs(kernel, problem, call, one.case.seed + 1)
        if result.reason is not None:
            return {"failure": f"wrong: {result.reason}"}
        with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
            call()
        work = count_work(call, kernel.ask("generated_assembly", one.case))
        found = {
            "max_rel_error": max(first.error, result.error),
            "flops": int(counter.get_total_flops()),
            "declared_flops": kernel.ask("predicted_flops", one.case),
            "python_bytes": device.python_bytes(call),
            **measure_memory(kernel, one.case)._asdict(),
        }
        device.clock()  # what still runs there fails here, and not at the next case
        by_base = BASE in kernels and judge.is_judge
        return {"metrics": found, "work": work, "judged_by_base": by_base}
    except Exception as error:
        status, reason = "oom" if is_out_of_memory(error) else "crashed", in_one_line(error)
    if not device.release_memory():
        sys.exit(reason)  # the next case gets a process of its own
    return {"failure": f"{status}: {reason}"}


def compare(one: KernelCase, kernels: Kernels, spec: Spec) -> dict[str, Any]:
    """Time the head's call against the base's; where asked, also that of a copy of the base."""
    problem = Problem(replace(one.case, seed=spec.seed))
    order = [BASE, HEAD, *([CONTROL] if spec.control == one.name else [])]
    # In turns: the first has its tensors first in memory, and imports what the others then find.
    order = order[::-1] if spec.seed % 2 else order
    ready = {name: first_call(kernels[name].bind, problem.share_inputs()) for name in order}
    targets = {name: LocalTarget(call, one.case.device) for name, (call, _) in ready.items()}
    first_call_s = {name: seconds for name, (_, seconds) in ready.items()}
    refresh = None if OPERATIONS[one.case.operation].trains else refresher(problem)
    return compare_calls(targets, first_call_s, seed=spec.seed, refresh=refresh)


def serve(one: KernelCase, kernels: Kernels, spec: Spec) -> dict[str, Any]:
    """Get a kernel's call ready, then do what the parent asks on the standard input."""
    (kernel,) = kernels.values()
    problem = Problem(replace(one.case, seed=spec.seed))
    call, first_call_s = first_call(kernel.bind, problem.share_inputs())
    ready = LocalTarget(call, one.case.device)
    _say("ready", of_call=(ready.about_s, ready.calls, first_call_s))
    for line in sys.stdin:
        if json.loads(line)["do"] == "next":
            break
        _say("slice", **ready.time_batch()._asdict())
    return {}


def attempt(one: KernelCase, kernels: Kernels, spec: Spec) -> dict[str, Any]:
    """Call the kernel of each version once: what cannot live beside the others fails here."""
    problem = Problem(one.case)
    for kernel in kernels.values():
        if kernel.unsupported(one.case) is None:
            kernel.bind(problem.share_inputs())()
    return {}


def _say(event: str, **content: Any) -> None:
    print(json.dumps({"event": event, **content}), flush=True)


class RefusedError(Exception):
    """Versions cannot be measured, or not in one process; the text says why."""


def work(measure: Measure) -> None:
    """Read a specification, load its versions, and measure the cases that all of them have."""
    given = json.loads(sys.stdin.readline())
    for path in given["kernel_files"]:  # which may declare the operations of the cases
        mlr.load_kernels(path)
    before = process_state() if measure is attempt else {}
    try:
        loaded = _load_all(given)
        spec = _read_spec(given)
        _require_unchanged(before, "loading them")
        _say("kernels", **{
            version: {name: kernel.operation for name, kernel in kernels.items()}
            for version, kernels in loaded.items()
        })  # fmt: skip
        with gc_paused():
            for one in spec.cases:
                if all(one.kernel in kernels for kernels in loaded.values()):
                    _say("start", case=one.name)
                    own = {name: kernels[one.kernel] for name, kernels in loaded.items()}
                    found = measure(one, own, spec)
                    if REFUSED:
                        raise ImportError(REFUSED[0])
                    _say("done", case=one.name, **found)
        if measure is verify and [*spec.folders] == [BASE] and spec.packages and spec.cases:
            _require_use(spec.packages)
        if measure is attempt:
            # The harness draws its inputs, and a kernel may: one version as much as the other.
            _require_unchanged({n: v for n, v in before.items() if n not in RANDOM}, "calling them")
            if (name := shared_library(map(Path, spec.folders.values()))) is not None:
                raise RefusedError(f"{name} is loaded once for all versions")
    except RefusedError as error:
        _say("refused", reason=str(error))
    gc.freeze()  # or Python looks through all of torch before the process ends


def _load_all(given: Mapping[str, Any]) -> dict[str, dict[str, VersionKernel]]:
    loaded: dict[str, dict[str, VersionKernel]] = {}
    for name in given["folders"]:
        try:
            loaded[name] = _load(name, given, first=not loaded)
        except Exception as error:
            missing = isinstance(error.__cause__ or error, ModuleNotFoundError | FileNotFoundError)
            hint = NOT_COMMITTED if missing and given["packages"] else ""
            reason = f"the {name} version cannot be used: {in_one_line(error)}{hint}"
            raise RefusedError(reason) from error
    return loaded


def _read_spec(given: dict[str, Any]) -> Spec:
    """Return the specification, without the cases of operations that are not known here.

    They are those of the harness's `mlr`, and so of the first version of packages: there is nothing
    to compare one with that the head adds.
    """
    cases = [one for one in given["cases"] if one["case"]["operation"] in OPERATIONS]
    try:
        return SPEC.validate_json(json.dumps(given | {"cases": cases}))
    except ValidationError as error:
        first = next(iter(given["folders"]), HEAD)
        reason = f"the {first} version does not have the cases: {first_error(error)}"
        raise RefusedError(reason) from error


def _require_use(packages: Sequence[str]) -> None:
    """Refuse packages that no kernel imports: what is timed then comes from elsewhere."""
    if not FINDER.found:
        raise RefusedError(
            f"kernels must use what is compared; those of the base import nothing of "
            f"{', '.join(packages)}: name the packages that they import, as src/theirs"
        )


def _require_unchanged(before: Mapping[str, Any], what: str) -> None:
    if before and (changed := changes(before, process_state())):
        raise RefusedError(f"{what} changes what a process shares: {changed}")


def _load(name: str, given: Mapping[str, Any], *, first: bool) -> dict[str, VersionKernel]:
    """Load a version of a specification, which is not validated before its operations are known."""
    options = {"first": first, "alone": given["alone"]}
    return load_kernels(Path(given["folders"][name]), f"mlr_{name}", given["packages"], **options)


if __name__ == "__main__":
    named = {one.__name__: one for one in (compare, verify, serve, attempt)}
    work(named[sys.argv[1]])
