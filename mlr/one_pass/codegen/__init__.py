"""One sweep over the rows, written for n and o as LLVM IR: G = XᵀR and g = 1ᵀR, R = XW + b − Y.

For one row x, y of X and Y after the other

    r = x W + b − y      the residual, which never leaves the registers, or the cache
    G += xᵀ r            sums that stay in registers or in the first cache
    g += r

and after the last W −= η G, b −= η g. X and Y are read once; nothing that grows with m is written.
The operation `gradient` is the same with r given: it reads X and δ and returns G and g. `train` is
a `step` on each of the mini-batches that lie one behind the other, which sums the squares of r too,
epoch after epoch, and `loss` sums nothing but these. `losses` does so for the parameters of many
epochs at once (`epochs.py`).

There are four ways to do so. Where W and the sums fit in the first cache, a vector is filled with
the outputs of one row (`outputs.py`), or, where those would leave most of it empty and all sums fit
in registers, with one feature of many rows (`rows.py`), or with features of one row (`features.py`)
where these are too many for that. Where W and the sums do not fit in the first cache, a block
of rows stays in the second cache, and its residuals with it, from the one product to the other
(`tiles.py`). Sums run over a block of rows in the working precision and over the blocks in float64,
so that the error does not grow with m.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

from .epochs import EpochVectorised
from .features import FeatureVectorised
from .outputs import OutputVectorised
from .rows import RowVectorised
from .target import APPLE, AVX, AVX512, NEON, SSE, ZEN4, Target
from .tiles import Tiles
from .writer import BLOCK, DOUBLE, INT, LOSSES, WITH_LOSS, Argument, ParameterSpan, Writer

__all__ = [
    "APPLE",
    "AVX",
    "AVX512",
    "BLOCK",
    "LOSSES",
    "MAX_PRODUCTS",
    "NEON",
    "SSE",
    "ZEN4",
    "Argument",
    "EpochVectorised",
    "FeatureVectorised",
    "Layout",
    "OutputVectorised",
    "RowVectorised",
    "Source",
    "Target",
    "Tiles",
    "layout",
    "needs_room",
]  # fmt: skip

_TARGETS = {Argument.WEIGHT: Argument.WEIGHT_TARGET, Argument.BIAS: Argument.BIAS_TARGET}
# From so many on, by the bytes of a vector, tiles are faster for a gradient of one block of rows,
# or of outputs that fill several vectors (in float32 only where registers are few), and, from as
# many as on AVX-512, for a loss whose outputs fill one vector. Measured on AVX-512 and AVX2. (Of
# outputs in float64 that fill half a vector from the most on that are not tiles anyhow: 12 in place
# of 22 µs at 100 × 256 → 4 on AVX-512.)
_TILED_PRODUCTS = {64: 512, 32: 256, 16: 128}
MAX_PRODUCTS = 1_024  # n·o with padding: W and G in the first cache, the code in the second
Layout = OutputVectorised | FeatureVectorised | RowVectorised | Tiles | EpochVectorised


def layout(m: int, n: int, o: int, dtype: str, target: Target, operation: str = "step") -> Layout:
    """Return how m rows of n features and o outputs fill the vectors of a target.

    >>> type(layout(10, 6, 3, "float32", AVX512)).__name__
    'OutputVectorised'
    >>> type(layout(1_000, 6, 3, "float32", AVX512)).__name__
    'RowVectorised'
    >>> type(layout(1_000, 256, 64, "float32", AVX512)).__name__
    'Tiles'
    >>> type(layout(100, 16, 32, "float64", AVX512, "gradient")).__name__
    'Tiles'
    """
    if operation == "losses":
        return EpochVectorised.of(n, o, dtype, target)
    by_rows = RowVectorised.of(m, n, o, dtype, target, operation)
    narrow = by_rows or FeatureVectorised.of(n, o, dtype, target, operation)
    if narrow:
        return narrow
    by_outputs = OutputVectorised.of(n, o, dtype, target, operation)
    tiles = Tiles.of(n, o, dtype, target, operation)
    several = by_outputs.vectors > 1 and (dtype == "float64" or target.registers < 32)
    many = by_outputs.weight_sums >= MAX_PRODUCTS and dtype == "float64" and 2 * o >= tiles.lanes
    most = MAX_PRODUCTS
    if operation == "gradient" and (several or (m <= BLOCK and (many or o >= tiles.lanes))):
        most = _TILED_PRODUCTS[target.vector_bytes] - 1
    elif operation == "loss" and by_outputs.vectors == 1 and 2 * o >= tiles.lanes:
        most = _TILED_PRODUCTS[64] - 1
    return by_outputs if by_outputs.weight_sums <= most else tiles


def needs_room(laid_out: Layout) -> bool:
    """Say whether a call in one thread must be given room for its sums: the stack holds few.

    >>> [needs_room(layout(100, n, 16, "float64", AVX512)) for n in (64, 256)]
    [False, True]
    """
    return isinstance(laid_out, Tiles | EpochVectorised)


class Source:
    """Writes the sweep for a layout.

    Args:
        operation: `step`, `train` on mini-batches, the `loss` alone, or the `losses` of many
            parameters, or `gradient` where the residual is given.
        laid_out: How n features and o outputs fill vectors, from `layout`.
        dtype: `float32` or `float64`.
    """

    def __init__(self, operation: str, laid_out: Layout, dtype: str) -> None:
        self.operation, self.layout, self.dtype = operation, laid_out, dtype
        self.n, self.o = laid_out.n, laid_out.o
        self.name = f"{operation}_{dtype}_{laid_out.name}"

    def text(self) -> str:
        """Return the module's IR: `sweep` sums over rows, `finish` uses the sums, `call` both.

        Each function's name ends in the source's `name`. For training, `call` goes through the
        mini-batches, as often as there are epochs.
        """
        module = ir.Module(self.name)
        sweep = self._write_sweep(self._writer(module, "sweep"))
        finish = self._write_finish(self._writer(module, "finish"))
        self._write_call(self._writer(module, "call"), sweep, finish)
        return str(module)

    def _writer(self, module: ir.Module, part: str) -> Writer:
        return Writer(module, f"{part}_{self.name}", self.dtype, self.layout.cache_line)

    def _write_call(self, to: Writer, *parts: ir.Function) -> None:
        """Write the call in one thread, with room on the stack for sums where they are few."""
        own = to.own_arguments(self.operation)
        if not needs_room(self.layout):
            room = to.array(self.layout.doubles(self.operation), DOUBLE)
            to.build.store(room, to.gep(own, Argument.SUMS, INT))
        if self.operation == "train":
            with self._epochs(to, own), self._mini_batches(to, own):
                for part in parts:
                    to.build.call(part, [own])
        else:
            for part in parts:
                to.build.call(part, [own])
        to.build.ret_void()

    @contextmanager
    def _epochs(self, to: Writer, own: ir.Value) -> Iterator[None]:
        """Write the loop over epochs around what follows; a copy of the parameters ends each."""
        loss, kept = to.argument(Argument.LOSS), to.argument(Argument.KEPT)
        wanted = to.build.icmp_unsigned("!=", kept, ir.Constant(kept.type, None))
        weights, biases = self.n * self.o, self.o
        with to.loop(0, to.argument(Argument.EPOCHS)) as epoch:
            to.build.store(to.gep(loss, epoch, DOUBLE), to.gep(own, Argument.LOSS, INT))
            yield
            first = to.gep(kept, to.offset((epoch, weights + biases)))
            for which, begin, count in (
                (Argument.WEIGHT_TARGET, 0, weights),
                (Argument.BIAS_TARGET, weights, biases),
            ):
                held = to.argument(which)
                stop = to.build.select(wanted, INT(count), INT(0))
                with to.loop(0, stop) as index:
                    item = to.build.load(to.gep(held, index), typ=to.item)
                    to.build.store(item, to.gep(to.gep(first, begin), index))

    @contextmanager
    def _mini_batches(self, to: Writer, own: ir.Value) -> Iterator[None]:
        """Write the loop over mini-batches around what follows, each the rows of the arguments."""
        x, y, rows, batch = (
            to.argument(which) for which in (Argument.X, Argument.Y, Argument.ROWS, Argument.BATCH)
        )
        with to.loop(0, rows, batch) as first:
            count = to.minimum(batch, to.build.sub(rows, first))
            numbers = to.build.mul(count, INT(self.o))
            for which, value in {
                Argument.X: to.gep(x, to.offset((first, self.n))),
                Argument.Y: to.gep(y, to.offset((first, self.o))),
                Argument.ROWS: count,
                Argument.NUMBERS: to.build.sitofp(numbers, DOUBLE),
            }.items():
                to.build.store(value, to.gep(own, which, INT))
            yield

    def _write_sweep(self, to: Writer) -> ir.Function:
        """Write what sums over the rows of one part."""
        sums = to.argument(Argument.SUMS)
        with to.loop(0, self.layout.summed(self.operation)) as index:
            to.build.store(DOUBLE(0.0), to.gep(sums, index, DOUBLE))
        self.layout.write(to, self.operation)
        to.build.ret_void()
        return to.function

    def _write_finish(self, to: Writer) -> ir.Function:
        """Write what is done with the sums of all parts: they are added to the first, and used."""
        t = self.layout
        sums, parts = to.argument(Argument.SUMS), to.argument(Argument.THREADS)
        with to.loop(1, parts) as part, to.loop(0, t.summed(self.operation)) as index:
            place = to.offset((part, t.doubles(self.operation)), (index, 1))
            more = to.build.load(to.gep(sums, place, DOUBLE), typ=DOUBLE)
            to.add_double(more, sums, index)
        if self.operation in WITH_LOSS:
            self._add_losses(to, sums)
        rate = to.argument(Argument.RATE)
        if self.operation == "train":
            rate = to.build.fdiv(rate, to.argument(Argument.NUMBERS))
        rate = to.build.fneg(rate)
        for span in t.spans(to) if self.operation not in ("loss", "losses") else ():
            self._use(to, span, rate)
        to.build.ret_void()
        return to.function

    def _add_losses(self, to: Writer, sums: ir.Value) -> None:
        """Add the mean of the squares of R to what lies at `LOSS`, that of each parameters."""
        squares, total = self.layout.squares, to.array(1, DOUBLE)
        several = LOSSES if self.operation == "losses" else 1
        with to.loop(0, several) as number:
            to.build.store(DOUBLE(0.0), total)
            first = to.build.add(number, INT(squares.start))
            with to.loop(first, squares.stop, several) as index:
                square = to.build.load(to.gep(sums, index, DOUBLE), typ=DOUBLE)
                to.add_double(square, total, 0)
            mean = to.build.fdiv(to.build.load(total, typ=DOUBLE), to.argument(Argument.NUMBERS))
            to.add_double(mean, to.argument(Argument.LOSS), number)

    def _use(self, to: Writer, span: ParameterSpan, rate: ir.Value) -> None:
        """Add −η times the sums to the parameters, or write them out as the gradient."""
        lanes, first = self.layout.lanes, 0
        argument = _TARGETS[span.argument] if self.operation == "train" else span.argument
        target = to.gep(to.argument(argument), span.target)
        sums = to.gep(to.argument(Argument.SUMS), span.sums, DOUBLE)
        while first < span.items:
            together = lanes if first + lanes <= span.items else 1
            value = to.load(sums, first, together, DOUBLE)
            if self.operation != "gradient":
                before = to.widen(to.load(target, first, together))
                value = to.multiply_add(to.broadcast(rate, together), value, before)
            to.store(to.narrow(value), target, first)
            first += together
