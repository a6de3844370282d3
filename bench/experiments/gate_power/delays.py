"""Slow-downs of a known size, put into a version's copy: each call of a kernel waits first."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...measure.clock import wall_clock
from ...measure.paired import LocalTarget

SLICES = 15


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


def delay_kernels(kernels: dict[str, Any], shares: Mapping[str, float]) -> None:
    """Put delays into a table of kernels, by the kernels' names."""
    for name, share in shares.items():
        kernels[name] = DelayedKernel(kernels[name], share)


def put_delays(package: Path, shares: Mapping[str, float]) -> None:
    """Let a copy of the package delay the calls of some kernels whenever it is imported."""
    with (package / "__init__.py").open("a", encoding="utf-8") as file:
        file.write(f"\nfrom {__name__} import delay_kernels\ndelay_kernels(KERNELS, {shares!r})\n")
