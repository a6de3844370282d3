"""All-reduces of many sizes by themselves, over all workers."""

from __future__ import annotations

import random
from functools import partial

import torch

from mlr.distributed import Workers

from ..measure.timing import time_parts
from .metrics import Sample

SIZES = tuple(64 * 2**power for power in range(17))  # bytes: 64 B to 4 MiB
WORK_SHAPE = 2_000, 64  # of the product before each: some 0.2 ms
CALLS = 8  # timed at once


def sweep_all_reduces(workers: Workers, rounds: int, seed: int) -> list[Sample]:
    """Measure all-reduces of every size in every round, each after a product, as in a step.

    The candidate of a sample is its size in bytes. The order, from the seed, must be the same on
    all workers, who all must come here at once.
    """
    work = torch.ones(WORK_SHAPE, device=workers.device)
    order = random.Random(seed)
    samples: list[Sample] = []
    for number in range(rounds):
        for size in order.sample(SIZES, len(SIZES)):
            values = torch.zeros(size // 8, dtype=torch.float64, device=workers.device)
            parts = partial(torch.mm, work.T, work), partial(workers.all_reduce, values)
            workers.barrier()
            # The first calls, which do not count, pay for the caches that another size has filled.
            calls = time_parts(parts, 2 * CALLS, workers.device.type)[CALLS:]
            samples += split_calls(str(size), number, calls)
    return samples


def split_calls(candidate: str, number: int, calls: list[list[float]]) -> list[Sample]:
    """Return the samples of calls whose second part is the all-reduce, from `time_parts`."""
    whole = [sum(parts) for parts in calls]
    compute = [total - parts[1] for total, parts in zip(whole, calls, strict=True)]
    return [(candidate, number, "compute", compute), (candidate, number, "whole", whole)]
