"""A process that times one version in rounds; slow-downs of a known size in a version's copy."""

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlr import Problem

from ...gate.blocks import KernelCase, Spec
from ...gate.worker import Kernels, work
from ...measure.paired import LocalTarget
from ...measure.timing import wall_clock

ROUNDS = 30
SLICES = 15


def time_rounds(one: KernelCase, kernels: Kernels, spec: Spec) -> dict[str, Any]:
    """Time one version's call in rounds of one process, as other tools do."""
    (kernel,) = kernels.values()
    ready = LocalTarget(kernel.bind(Problem(one.case)), one.case.device)
    ready.warmup_calls = 0
    return {"rounds": [ready.time_batch().seconds for _ in range(ROUNDS)]}


class DelayedKernel:
    """A kernel whose calls take longer by a share of what they take in this process."""

    def __init__(self, kernel: Any, share: float) -> None:
        self._kernel, self._share = kernel, share

    def __getattr__(self, name: str) -> Any:
        """Return what the kernel has."""
        return getattr(self._kernel, name)

    def bind(self, problem: Any) -> Callable[[], Any]:
        """Bind the kernel, find how long a call takes, and delay every one."""
        call = self._kernel.bind(problem)
        ready = LocalTarget(call, problem.case.device)
        delay_s = self._share * statistics.median(ready.time_batch().seconds for _ in range(SLICES))

        def delayed() -> Any:
            until = wall_clock() + delay_s
            while wall_clock() < until:
                pass
            return call()

        return delayed


def put_delays(package: Path, shares: Mapping[str, float]) -> None:
    """Let a copy of the package delay the calls of kernels by shares, whenever it is imported."""
    delays = [f"KERNELS[{n!r}] = DelayedKernel(KERNELS[{n!r}], {one})" for n, one in shares.items()]
    with (package / "__init__.py").open("a", encoding="utf-8") as file:
        file.write("\n".join(["", f"from {__name__} import DelayedKernel", *delays, ""]))


if __name__ == "__main__":
    work(time_rounds)
