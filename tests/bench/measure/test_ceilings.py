"""The probes of what a device can do at best, on small working sets."""

import pytest

from bench.machine.devices import Device
from bench.measure.ceilings import (
    ROUNDS,
    bind_multiply_adds,
    measure_ceilings,
    write_multiply_adds,
)


def test_every_working_set_that_fits_and_every_dtype_has_a_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Device, "working_sets", (2**14, 2**16, 2**40))
    monkeypatch.setattr(Device, "gemm_sizes", (32, 64))
    found = measure_ceilings("cpu")
    assert [size for size, _ in found.bandwidth_bytes_per_s] == [2**14, 2**16]
    assert all(1e7 < rate < 1e13 for _, rate in found.bandwidth_bytes_per_s)
    assert set(found.flops_per_s) == {"float32", "float64"}
    assert all(1e7 < rate < 1e15 for rate in found.flops_per_s.values())
    assert 1e-9 < found.dispatch_s < 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_peak_is_of_multiply_adds_that_are_really_done(dtype: str) -> None:
    """Each sum tends to s = s/2 + 1 = 2, in as many rounds as are counted."""
    text, flops = write_multiply_adds(dtype, 64)
    held = text.count("= call <")
    assert flops == 2 * ROUNDS * held * 64 // (int(dtype[-2:]) // 8)
    bound = bind_multiply_adds(dtype)
    bound.call()
    sums = bound.flops // (2 * ROUNDS * bound.totals.numel())
    assert bound.flops == 2 * ROUNDS * sums * bound.totals.numel() > 0
    assert (bound.totals == 2 * sums).all()
