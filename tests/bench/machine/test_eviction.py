"""Eviction from the processor's caches: what is evicted keeps its values."""

import torch

from bench.machine.eviction import evict


def test_what_is_evicted_keeps_its_values() -> None:
    values = torch.arange(100_003, dtype=torch.float32)
    expected = values.clone()
    evict([values, values[1:7]])
    assert torch.equal(values, expected)
