"""One sweep over the rows, written for n and o as LLVM IR: G = XᵀR and g = 1ᵀR, R = XW + b − Y.

For one row x, y of X and Y after the other

    r = x W + b − y      the residual, which never leaves the registers, or the cache
    G += xᵀ r            sums that stay in registers or in the first cache
    g += r

and after the last W −= η G, b −= η g. X and Y are read once; nothing that grows with m is written.
The operation `gradient` is the same with r given: it reads X and δ and returns G and g.

There are three ways to do so. Where W and the sums fit in the first cache, a vector is filled with
the outputs of one row (`outputs.py`), or, where those would leave most of it empty, all sums fit in
registers and rows are many, with one feature of many rows (`rows.py`). Where they do not, a block
of rows stays in the second cache, and its residuals with it, from the one product to the other
(`tiles.py`). Sums run over a block of rows in the working precision and over the blocks in float64,
so that the error does not grow with m.
"""

from __future__ import annotations

from llvmlite import ir

from .outputs import BLOCK, OutputVectorised
from .rows import RowVectorised
from .tiles import Tiles
from .writer import DOUBLE, Argument, ParameterSpan, Writer

__all__ = [
    "BLOCK",
    "MAX_PRODUCTS",
    "Argument",
    "Layout",
    "OutputVectorised",
    "RowVectorised",
    "Source",
    "Tiles",
    "layout",
]  # fmt: skip

MAX_PRODUCTS = 1_024  # n·o with padding: W and G in the first cache, the code in the second
Layout = OutputVectorised | RowVectorised | Tiles


def layout(m: int, n: int, o: int, dtype: str, vector_bytes: int) -> Layout:
    """Return how m rows of n features and o outputs fill vectors of so many bytes.

    >>> type(layout(100, 6, 3, "float32", 64)).__name__
    'OutputVectorised'
    >>> type(layout(1_000, 6, 3, "float32", 64)).__name__
    'RowVectorised'
    >>> type(layout(1_000, 256, 64, "float32", 64)).__name__
    'Tiles'
    """
    by_rows = RowVectorised.of(m, n, o, dtype, vector_bytes)
    if by_rows:
        return by_rows
    by_outputs = OutputVectorised.of(n, o, dtype, vector_bytes)
    if by_outputs.weight_sums <= MAX_PRODUCTS:
        return by_outputs
    return Tiles.of(n, o, dtype, vector_bytes)


class Source:
    """Writes the sweep for a layout.

    Args:
        operation: `step`, or `gradient` where the residual is given.
        laid_out: How n features and o outputs fill vectors, from `layout`.
        dtype: `float32` or `float64`.
    """

    def __init__(self, operation: str, laid_out: Layout, dtype: str) -> None:
        self.operation, self.layout, self.dtype = operation, laid_out, dtype
        self.n, self.o = laid_out.n, laid_out.o
        self.name = f"{operation}_{dtype}_{laid_out.name}"

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
        sums = to.argument(Argument.SUMS)
        with to.loop(0, self.layout.sums) as index:
            to.build.store(DOUBLE(0.0), to.gep(sums, index, DOUBLE))
        self.layout.write(to, residual_given=self.operation == "gradient")
        to.build.ret_void()
        return to.function

    def _write_finish(self, to: Writer) -> ir.Function:
        """Write what is done with the sums of all parts: they are added to the first, and used."""
        t = self.layout
        sums, parts = to.argument(Argument.SUMS), to.argument(Argument.THREADS)
        with to.loop(1, parts) as part, to.loop(0, t.sums) as index:
            place = to.offset((part, t.doubles(self.operation)), (index, 1))
            more = to.build.load(to.gep(sums, place, DOUBLE), typ=DOUBLE)
            to.add_double(more, sums, index)
        for span in t.spans(to):
            self._use(to, span)
        to.build.ret_void()
        return to.function

    def _use(self, to: Writer, span: ParameterSpan) -> None:
        """Subtract η times the sums from the parameters, or write them out as the gradient."""
        build, lanes, first = to.build, self.layout.lanes, 0
        target = to.gep(to.argument(span.argument), span.target)
        sums = to.gep(to.argument(Argument.SUMS), span.sums, DOUBLE)
        while first < span.items:
            together = lanes if first + lanes <= span.items else 1
            value = to.load(sums, first, together, DOUBLE)
            if self.operation == "step":
                before = to.widen(to.load(target, first, together))
                rate = to.broadcast(to.argument(Argument.RATE), together)
                value = build.fsub(before, build.fmul(rate, value))
            to.store(to.narrow(value), target, first)
            first += together
