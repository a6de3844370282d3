"""What a processor can do at best, for comparison: multiply-adds on registers, and nothing else."""

from __future__ import annotations

from llvmlite import ir

from .writer import SIZES, Slot, Writer, registers

ROUNDS = 50_000  # of a call: a millisecond, beside which starting threads counts for little
_HELD = {32: 24, 16: 12}  # by the registers: sums in flight, enough for the latency of each


def multiply_adds(dtype: str, vector_bytes: int) -> tuple[str, int]:
    """Return the IR of a function `peak_…` that adds up products, and the operations of a call.

    s = s·a + b for many sums s at once, so that none waits for itself. It is told where a and b lie
    in the slots X and Y, and puts a number into SUMS, so that nothing may be left out.

    Args:
        dtype: `float32` or `float64`.
        vector_bytes: What the machine's vectors hold.
    """
    module = ir.Module("peak")
    to = Writer(module, f"peak_{dtype}_{vector_bytes}", dtype)
    lanes, held = vector_bytes // SIZES[dtype], _HELD[registers(vector_bytes)]
    factor, addend = (
        to.spread(to.build.load(to.slot(slot), typ=to.item), lanes) for slot in (Slot.X, Slot.Y)
    )
    sums = [to.room(lanes, 1) for _ in range(held)]
    for number, place in enumerate(sums):
        to.store(ir.Constant(to.vector(lanes), [float(number)] * lanes), place, 0)
    with to.loop(0, ROUNDS):
        for place in sums:
            to.store(to.multiply_add(to.load(place, 0, lanes), factor, addend), place, 0)
    total = to.zero(lanes)
    for place in sums:
        total = to.build.fadd(total, to.load(place, 0, lanes))
    to.store(total, to.slot(Slot.SUMS), 0)
    to.build.ret_void()
    return str(module), 2 * lanes * held * ROUNDS
