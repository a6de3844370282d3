"""A process that times one version in rounds: `python -m bench.experiments.gate_power.worker`."""

from __future__ import annotations

from typing import Any

from mlr import Problem

from ...gate.spec import KernelCase, Spec
from ...gate.worker import Kernels, work
from ...measure.timing import repeats_of, time_batch, warm_up

ROUNDS = 30


def time_rounds(one: KernelCase, kernels: Kernels, spec: Spec) -> dict[str, Any]:
    """Time one version's call in rounds of one process, as other tools do."""
    (kernel,) = kernels.values()
    call = kernel.bind(Problem(one.case))
    repeats = repeats_of(warm_up(call, one.case.device))
    return {"rounds": [time_batch(call, repeats, one.case.device).seconds for _ in range(ROUNDS)]}


if __name__ == "__main__":
    work(time_rounds)
