"""A process that times one version in rounds; slow-downs of a known size in a version's copy.

A slow-down is before a call, or inside a compiled sweep.
"""

import ctypes
import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from llvmlite import ir

from mlr import Case, Problem
from mlr.one_pass.codegen import Argument
from mlr.one_pass.codegen.writer import INT

from ...gate.blocks import KernelCase, Spec
from ...gate.worker import Kernels, work
from ...machine.devices import Call
from ...measure.paired import LocalTarget
from ...measure.timing import repeats_of, time_batch, wall_clock, warm_up

SLICES = 15
COMPILED = {"one_pass": "gradient", "one_pass_step": "step"}  # their operations
EXTRA = ctypes.c_int64()  # numbers of X that a compiled sweep reads before its work


def time_rounds(how: dict[str, Any], one: KernelCase, kernels: Kernels, _: Spec) -> dict[str, Any]:
    """Time one version's call in rounds of one process, each of some calls, after a warm-up."""
    (kernel,) = kernels.values()
    call, device = kernel.bind(Problem(one.case)), one.case.device
    about_s = warm_up(call, device, how["warm_up_s"])
    repeats = repeats_of(about_s, how["round_s"])
    count = max(how["rounds"], int(how["rounds_s"] / (repeats * about_s)))
    return {"rounds": [time_batch(call, repeats, device).seconds for _ in range(count)]}


def put_delays(package: Path, code: str, shares: Mapping[str, float]) -> None:
    """Let a copy of the package slow calls by shares, by kernel and case, whenever it is imported.

    A kernel that is not slowed in any case is left as it is. `code` is that of `trials.toml`.
    """
    operations = [COMPILED[kernel] for kernel in COMPILED
                  if any(name.startswith(f"{kernel}-") for name in shares)]  # fmt: skip
    text = code.format(module=__name__, shares=dict(shares), operations=operations)
    with (package / "__init__.py").open("a", encoding="utf-8") as file:
        file.write(text)


def delay(call: Call, case: Case, kernel: str, share: float | None) -> Call:
    """Return a call that takes longer by a share of what it takes in this process, or as it is.

    A compiled sweep reads numbers of X first, until the next call is bound: all of them at most.
    Other kernels' calls begin with a wait.
    """
    EXTRA.value = 0
    if share is None:
        return call
    usual_s = _least_s(call, case)
    if kernel not in COMPILED:
        return _after(share * usual_s + usual_s - _least_s(_after(0.0, call), case), call)
    EXTRA.value = count = case.batch * case.in_features * case.itemsize // 8
    EXTRA.value = round(count * share * usual_s / max(_least_s(call, case) - usual_s, 1e-12))
    return call


def _least_s(call: Call, case: Case) -> float:
    ready = LocalTarget(call, case.device)
    return min(ready.time_batch().seconds for _ in range(SLICES))


def _after(delay_s: float, call: Call) -> Call:
    def delayed() -> Any:
        until = wall_clock() + delay_s
        while wall_clock() < until:
            pass
        return call()

    return delayed


def let_read_more(source: Any, operations: list[str]) -> None:
    """Let the sweeps of some operations, of a copy of the package, read as `EXTRA` says.

    It is looked up by its address in this process, at each call of what is compiled here.
    """
    write = source._write_sweep

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

    source._write_sweep = write_with_more


if __name__ == "__main__":
    work(partial(time_rounds, json.loads(sys.argv[1])))
