"""A process that times one version in rounds; slow-downs of a known size in a version's copy.

A slow-down is before a call, or inside a compiled sweep.
"""

import ctypes
import json
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from llvmlite import ir

from mlr import Case, Problem
from mlr.one_pass.codegen import Argument
from mlr.one_pass.codegen.writer import INT
from mlr.operations import GRADIENT, STEP

from ...gate.blocks import KernelCase, Spec
from ...gate.worker import Kernels, work
from ...machine.devices import Call
from ...measure.timing import repeats_of, seconds_per_call, time_batch, wall_clock, warm_up

COMPILED = {"one_pass": GRADIENT.name, "one_pass_step": STEP.name}  # their operations
EXTRA = ctypes.c_int64()  # numbers of X that a compiled sweep reads before its work


def time_rounds(how: dict[str, Any], one: KernelCase, kernels: Kernels, _: Spec) -> dict[str, Any]:
    """Time one version's call in rounds of one process, each of some calls, after a warm-up."""
    (kernel,) = kernels.values()
    call, device = kernel.bind(Problem(one.case)), one.case.device
    about_s = warm_up(call, device, how["warm_up_s"])
    repeats = repeats_of(about_s, how["round_s"])
    count = max(how["rounds"], int(how["rounds_s"] / (repeats * about_s)))
    return {"rounds": [time_batch(call, repeats, device).seconds for _ in range(count)]}


def slow_down(kernels: Any, source: Any, shares: Mapping[str, float]) -> None:
    """Let calls of a copy of the package take longer by shares, by kernel and case.

    `kernels` is its class of kernels, `source` what writes its compiled sweeps. Of these, those of
    operations with a share read as `EXTRA` says, and it is looked up by its address at each call.
    """
    bind, write = kernels.bind, source._write_sweep
    operations = {COMPILED.get(name.partition("-")[0]) for name in shares}

    def bind_slowed(kernel: Any, problem: Problem) -> Call:
        EXTRA.value = 0
        call, share = bind(kernel, problem), shares.get(f"{kernel.name}-{problem.case.id}")
        return call if share is None else delay(call, problem.case, kernel.name, share)

    def write_with_more(self: Any, to: Any) -> Any:
        if self.operation in operations:
            x, address = to.argument(Argument.X), INT(ctypes.addressof(EXTRA))
            wanted = to.build.load(address.inttoptr(ir.PointerType()), typ=INT)
            row_bytes = to.build.mul(to.argument(Argument.ROWS), INT(self.n * to.size))
            of_a_number = ir.FunctionType(ir.VoidType(), [INT])
            with to.loop(0, to.minimum(wanted, to.build.udiv(row_bytes, INT(8)))) as index:
                number = to.build.load(to.gep(x, index, INT), typ=INT, align=to.size)
                to.build.asm(of_a_number, "", "r", [number], side_effect=True)
        return write(self, to)

    kernels.bind, source._write_sweep = bind_slowed, write_with_more


def delay(call: Call, case: Case, kernel: str, share: float) -> Call:
    """Return a call that takes longer by a share of what it takes in this process.

    A compiled sweep reads numbers of X first, until the next call is bound: all of them at most.
    Other kernels' calls begin with a wait.
    """
    usual_s = seconds_per_call(call, case.device)
    if kernel not in COMPILED:
        added_s = seconds_per_call(_after(0.0, call), case.device) - usual_s
        return _after(share * usual_s - added_s, call)
    EXTRA.value = count = case.batch * case.in_features * case.itemsize // 8
    read_s = seconds_per_call(call, case.device) - usual_s
    EXTRA.value = round(count * share * usual_s / max(read_s, 1e-12))
    return call


def _after(delay_s: float, call: Call) -> Call:
    def delayed() -> Any:
        until = wall_clock() + delay_s
        while wall_clock() < until:
            pass
        return call()

    return delayed


if __name__ == "__main__":
    work(partial(time_rounds, json.loads(sys.argv[1])))
