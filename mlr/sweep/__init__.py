"""One sweep over the rows, written for n and o as LLVM IR: G = XᵀR and g = 1ᵀR, R = XW + b − Y.

For one row x, y of X and Y after the other

    r = x W + b − y      the residual, which never leaves the registers
    G += xᵀ r            sums that stay in registers or in the first cache
    g += r

and after the last W −= η G, b −= η g. X and Y are read once; nothing that grows with m is written.
The stage `gradient` is the same with r given: it reads X and δ and returns G and g.

There are two ways to fill a vector: with the outputs of one row (`outputs.py`), or, where those
would leave most of it empty and all sums fit in registers, with one feature of many rows
(`rows.py`). Sums run over a block of rows in the working precision and over the blocks in float64,
so that the error does not grow with m.
"""

from __future__ import annotations

from llvmlite import ir

from .outputs import BLOCK, OutputsBeside
from .rows import RowsBeside
from .writer import DOUBLE, Slot, Writer

__all__ = ["BLOCK", "MOST_PRODUCTS", "OutputsBeside", "RowsBeside", "Slot", "Source", "layout"]

MOST_PRODUCTS = 1_024  # n·o with padding: W and G in the first cache, the code in the second


def layout(n: int, o: int, dtype: str, vector_bytes: int) -> OutputsBeside | RowsBeside:
    """Return how n features and o outputs fill vectors of so many bytes."""
    by_rows = RowsBeside.of(n, o, dtype, vector_bytes)
    return by_rows or OutputsBeside.of(n, o, dtype, vector_bytes)


class Source:
    """Writes the sweep for n features and o outputs.

    Args:
        stage: `step`, or `gradient` where the residual is given.
        n: Features.
        o: Outputs.
        dtype: `float32` or `float64`.
        vector_bytes: What the machine's vectors hold.
    """

    def __init__(self, stage: str, n: int, o: int, dtype: str, vector_bytes: int) -> None:
        self.stage, self.n, self.o, self.dtype = stage, n, o, dtype
        self.layout = layout(n, o, dtype, vector_bytes)
        self.name = f"{stage}_{dtype}_{n}x{o}_{vector_bytes}"

    def text(self) -> str:
        """Return the module's IR: `sweep` sums over rows, `finish` uses the sums, `call` both.

        Each function's name ends in the source's `name`.
        """
        module = ir.Module(self.name)
        sweep = self._write_sweep(Writer(module, f"sweep_{self.name}", self.dtype))
        finish = self._write_finish(Writer(module, f"finish_{self.name}", self.dtype))
        both = Writer(module, f"call_{self.name}", self.dtype)
        for part in (sweep, finish):
            both.build.call(part, both.function.args)
        both.build.ret_void()
        return str(module)

    def _write_sweep(self, to: Writer) -> ir.Function:
        """Write what sums over the rows of one part."""
        sums = to.slot(Slot.SUMS)
        with to.loop(0, self.layout.sums) as index:
            to.build.store(DOUBLE(0.0), to.at(sums, index, DOUBLE))
        self.layout.write(to, residual_given=self.stage == "gradient")
        to.build.ret_void()
        return to.function

    def _write_finish(self, to: Writer) -> ir.Function:
        """Write what is done with the sums of all parts: they are added to the first, and used."""
        t = self.layout
        sums, parts = to.slot(Slot.SUMS), to.slot(Slot.PARTS)
        with to.loop(1, parts) as part, to.loop(0, t.sums) as index:
            place = to.at(sums, index, DOUBLE)
            more = to.at(sums, to.after((part, t.sums), (index, 1)), DOUBLE)
            total = to.build.fadd(to.build.load(place, typ=DOUBLE), to.build.load(more, typ=DOUBLE))
            to.build.store(total, place)
        with to.loop(0, self.n) as feature:
            target = to.at(to.slot(Slot.WEIGHT), to.after((feature, self.o)))
            self._use(to, target, to.at(sums, to.after((feature, t.stride)), DOUBLE))
        self._use(to, to.slot(Slot.BIAS), to.at(sums, t.weight_sums, DOUBLE))
        to.build.ret_void()
        return to.function

    def _use(self, to: Writer, target: ir.Value, sums: ir.Value) -> None:
        """Subtract η times the sums from the parameters, or write them out as the gradient."""
        build = to.build
        for output in range(self.o):
            place = to.at(target, output)
            value = build.load(to.at(sums, output, DOUBLE), typ=DOUBLE)
            if self.stage == "step":
                before = to.widen(build.load(place, typ=to.item))
                value = build.fsub(before, build.fmul(to.slot(Slot.RATE), value))
            if to.item != DOUBLE:
                value = build.fptrunc(value, to.item)
            build.store(value, place)
