"""A process that times one version in rounds; slow-downs of a known size in a version's copy."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlr import Problem

from ...gate.blocks import KernelCase, Spec
from ...gate.worker import Kernels, work
from ...machine.devices import Call
from ...measure.paired import LocalTarget
from ...measure.timing import wall_clock

ROUNDS = 30
SLICES = 15
# Put at the end of a package, whose `Kernel` it names.
DELAYS = """
from {module} import delay
_bind, _shares = Kernel.bind, {shares}
Kernel.bind = lambda kernel, problem: delay(
    _bind(kernel, problem), problem.case.device, _shares.get(kernel.name)
)
"""


def time_rounds(one: KernelCase, kernels: Kernels, spec: Spec) -> dict[str, Any]:
    """Time one version's call in rounds of one process, as other tools do."""
    (kernel,) = kernels.values()
    ready = LocalTarget(kernel.bind(Problem(one.case)), one.case.device)
    ready.warmup_calls = 0
    return {"rounds": [ready.time_batch().seconds for _ in range(ROUNDS)]}


def delay(call: Call, device: str, share: float | None) -> Call:
    """Return a call that takes longer by a share of what it takes in this process, or as it is."""
    if share is None:
        return call
    ready = LocalTarget(call, device)
    delay_s = share * statistics.median(ready.time_batch().seconds for _ in range(SLICES))

    def delayed() -> Any:
        until = wall_clock() + delay_s
        while wall_clock() < until:
            pass
        return call()

    return delayed


def put_delays(package: Path, shares: Mapping[str, float]) -> None:
    """Let a copy of the package delay the calls of kernels by shares, whenever it is imported."""
    with (package / "__init__.py").open("a", encoding="utf-8") as file:
        file.write(DELAYS.format(module=__name__, shares=dict(shares)))


if __name__ == "__main__":
    work(time_rounds)
