"""One sweep over the rows, written for n and o as LLVM IR: G = XᵀR and g = 1ᵀR, R = XW + b − Y.

For one row x, y of X and Y after the other

    r = x W + b − y      the residual, which never leaves the registers
    G += xᵀ r            sums that stay in registers or in the first cache
    g += r

and after the last W −= η G, b −= η g. X and Y are read once; nothing that grows with m is written.
The stage `gradient` is the same with r given: it reads X and δ and returns G and g.

Layout. A vector holds the outputs of one row, padded to a power of two. Where that is but a part of
the machine's vectors, several features lie side by side in one: x is spread over them, W and G lie
in memory like that anyhow, and r is folded from them. Several rows go together, so that W and G are
loaded once for all of them. Sums run over `BLOCK` rows in the working precision and over the blocks
in float64, so that the error does not grow with m.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from llvmlite import ir

BLOCK = 512  # rows; the padding of a block is small beside it, the sum of one still exact enough
CACHE_LINE = 64
MOST_PRODUCTS = 1_024  # n·o with padding: W and G in the first cache, the code in the second
_TOGETHER = 8  # rows, as far as their residuals fit: hides the latency of a multiply-add
_FEATURES_PER_LANE = (
    4  # fewer features for each place side by side, and folding costs what it saves
)

_INT, _LANE, _DOUBLE, _VOID = ir.IntType(64), ir.IntType(32), ir.DoubleType(), ir.VoidType()
_POINTER = ir.PointerType()
_TYPES = {"float32": ir.FloatType(), "float64": _DOUBLE}
_SIZES = {"float32": 4, "float64": 8}


class Slot(IntEnum):
    """What a call is told, eight bytes each: five pointers, two numbers of rows and parts, η."""

    X = 0
    Y = 1
    WEIGHT = 2
    BIAS = 3
    SUMS = 4
    ROWS = 5
    PARTS = 6
    RATE = 7


@dataclass(frozen=True)
class Tile:
    """How a row lies in vectors.

    Attributes:
        lanes: Outputs in one vector, padded.
        vectors: Vectors that hold all outputs.
        beside: Features side by side in one vector; more than one only where `vectors` is 1.
        rows: Rows that go together.
        groups: Vectors over all features.
    """

    lanes: int
    vectors: int
    beside: int
    rows: int
    groups: int

    @property
    def width(self) -> int:
        """Lanes of a whole vector."""
        return self.lanes * self.beside

    @property
    def weight_sums(self) -> int:
        """How many numbers the padded G is."""
        return self.groups * self.vectors * self.width

    @property
    def bias_sums(self) -> int:
        """How many numbers the padded g is."""
        return self.vectors * self.lanes

    @property
    def sums(self) -> int:
        """How many float64 numbers a sweep adds up."""
        return self.weight_sums + self.bias_sums


def tile(n: int, o: int, dtype: str, vector_bytes: int) -> Tile:
    """Lay out n features and o outputs on a machine whose vectors hold so many bytes.

    >>> tile(6, 3, "float64", 64)
    Tile(lanes=4, vectors=1, beside=1, rows=8, groups=6)
    >>> tile(32, 4, "float32", 64)
    Tile(lanes=4, vectors=1, beside=4, rows=2, groups=8)
    """
    most = vector_bytes // _SIZES[dtype]
    lanes = 1
    while lanes < min(o, most):
        lanes *= 2
    vectors = -(-o // lanes)
    beside = 1
    if lanes * 4 <= most:
        while lanes * beside < most and n >= 2 * beside * _FEATURES_PER_LANE:
            beside *= 2
    rows = 2 if beside > 1 else max(1, _TOGETHER // vectors)
    return Tile(lanes, vectors, beside, rows, -(-n // beside))


class _Writer:
    """Writes one function, in the terms of vectors of its item type."""

    def __init__(self, module: ir.Module, name: str, dtype: str) -> None:
        kind = ir.FunctionType(_VOID, [_POINTER])
        self.function = ir.Function(module, kind, name)
        self.build = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.item, self.size = _TYPES[dtype], _SIZES[dtype]

    def slot(self, which: Slot) -> ir.Value:
        kind = {Slot.ROWS: _INT, Slot.PARTS: _INT, Slot.RATE: _DOUBLE}.get(which, _POINTER)
        place = self.at(self.function.args[0], which, _INT)
        return self.build.load(place, typ=kind)

    def number(self, value: int | ir.Value) -> ir.Value:
        return _INT(value) if isinstance(value, int) else value

    def at(self, base: ir.Value, index: int | ir.Value, kind: ir.Type | None = None) -> ir.Value:
        return self.build.gep(base, [self.number(index)], source_etype=kind or self.item)

    def after(self, *terms: tuple[int | ir.Value, int]) -> ir.Value:
        """Return Σ value·factor."""
        total: ir.Value = _INT(0)
        for value, factor in terms:
            total = self.build.add(total, self.build.mul(self.number(value), _INT(factor)))
        return total

    def vector(self, lanes: int) -> ir.VectorType:
        return ir.VectorType(self.item, lanes)

    def zero(self, lanes: int) -> ir.Constant:
        return ir.Constant(self.vector(lanes), [0.0] * lanes)

    def room(self, lanes: int, count: int) -> ir.Value:
        """Take room for so many vectors on the stack."""
        place = self.build.alloca(ir.ArrayType(self.vector(lanes), count))
        place.align, place.type = CACHE_LINE, _POINTER
        return place

    def load(self, base: ir.Value, index: int | ir.Value, lanes: int) -> ir.Value:
        """Load so many items that follow one another."""
        return self.build.load(self.at(base, index), typ=self.vector(lanes), align=self.size)

    def gather(self, base: ir.Value, index: int | ir.Value, count: int, lanes: int) -> ir.Value:
        """Load a few items, and nothing behind them, into a vector padded with zeros."""
        found: ir.Value = self.zero(lanes)
        for lane in range(count):
            place = self.at(self.at(base, index), lane)
            item = self.build.load(place, typ=self.item)
            found = self.build.insert_element(found, item, _LANE(lane))
        return found

    def store(self, value: ir.Value, base: ir.Value, index: int | ir.Value) -> None:
        self.build.store(value, self.at(base, index), align=self.size)

    def pick(self, value: ir.Value, lanes: Sequence[int]) -> ir.Value:
        """Return the vector of the lanes named."""
        mask = ir.Constant(ir.VectorType(_LANE, len(lanes)), list(lanes))
        return self.build.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """Return a·b + c, rounded once."""
        name = f"llvm.fma.v{a.type.count}f{8 * self.size}"
        module = self.function.module
        known = module.globals.get(name)
        kind = ir.FunctionType(a.type, [a.type] * 3)
        return self.build.call(known or ir.Function(module, kind, name), [a, b, c])

    def forget(self) -> None:
        """Let nothing loaded before be kept in registers: reading it again is cheaper."""
        kind = ir.FunctionType(_VOID, [])
        self.build.asm(kind, "", "~{memory}", [], side_effect=True)

    def widen(self, value: ir.Value) -> ir.Value:
        """Return a number or a vector in float64."""
        if self.item == _DOUBLE:
            return value
        lanes = getattr(value.type, "count", None)
        return self.build.fpext(value, ir.VectorType(_DOUBLE, lanes) if lanes else _DOUBLE)

    @contextmanager
    def loop(
        self, start: int | ir.Value, stop: int | ir.Value, step: int = 1
    ) -> Iterator[ir.Value]:
        """Write `for index in range(start, stop, step)` around what follows."""
        build, before = self.build, self.build.block
        head, body, end = (self.function.append_basic_block(n) for n in ("head", "body", "end"))
        build.branch(head)
        build.position_at_end(head)
        index = build.phi(_INT)
        index.add_incoming(self.number(start), before)
        build.cbranch(build.icmp_signed("<", index, self.number(stop)), body, end)
        build.position_at_end(body)
        yield index
        index.add_incoming(build.add(index, _INT(step)), build.block)
        build.branch(head)
        build.position_at_end(end)

    def less(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return the lesser of two numbers."""
        return self.build.select(self.build.icmp_signed("<", a, b), a, b)


class _Memory(NamedTuple):
    """Where the inputs lie, and on the stack the padded W and b and the sums over a block."""

    x: ir.Value
    y: ir.Value
    weight: ir.Value | None
    bias: Sequence[ir.Value]
    weight_sums: ir.Value
    bias_sums: ir.Value


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
        self.tile = tile(n, o, dtype, vector_bytes)
        self.name = f"{stage}_{dtype}_{n}x{o}_{vector_bytes}"

    def text(self) -> str:
        """Return the module's IR: `sweep` sums over rows, `finish` uses the sums, `call` both.

        Each function's name ends in the source's `name`.
        """
        module = ir.Module(self.name)
        sweep = self._write_sweep(_Writer(module, f"sweep_{self.name}", self.dtype))
        finish = self._write_finish(_Writer(module, f"finish_{self.name}", self.dtype))
        both = _Writer(module, f"call_{self.name}", self.dtype)
        for part in (sweep, finish):
            both.build.call(part, both.function.args)
        both.build.ret_void()
        return str(module)

    def _outputs(self, to: _Writer, base: ir.Value, index: int | ir.Value) -> list[ir.Value]:
        """Load the outputs of one row, and nothing behind them."""
        lanes = self.tile.lanes
        return [
            to.gather(to.at(base, index), first, min(lanes, self.o - first), lanes)
            for first in range(0, self.o, lanes)
        ]

    def _write_sweep(self, to: _Writer) -> ir.Function:
        t = self.tile
        weight, bias = None, [to.zero(t.lanes)] * t.vectors
        if self.stage == "step":
            weight = self._padded_weight(to)
            bias = self._outputs(to, to.slot(Slot.BIAS), 0)
        memory = _Memory(
            to.slot(Slot.X), to.slot(Slot.Y), weight, bias,
            to.room(t.width, t.groups * t.vectors), to.room(t.lanes, t.vectors),
        )  # fmt: skip
        sums, rows = to.slot(Slot.SUMS), to.slot(Slot.ROWS)
        with to.loop(0, t.sums) as index:
            to.build.store(_DOUBLE(0.0), to.at(sums, index, _DOUBLE))
        # Up to here a row may be read with what lies behind it.
        inside = to.build.sub(rows, _INT(self._rows_read_behind()))
        with to.loop(0, rows, BLOCK) as start:
            for part, lanes, count in self._sums(memory):
                for number in range(count):
                    to.store(to.zero(lanes), part, number * lanes)
            stop = to.less(to.build.add(start, _INT(BLOCK)), rows)
            whole = to.build.sub(to.less(stop, inside), start)
            some = to.build.icmp_signed(">", whole, _INT(0))
            whole = to.build.select(some, whole, _INT(0))
            together = to.build.sub(whole, to.build.urem(whole, _INT(t.rows)))
            middle = to.build.add(start, together)
            with to.loop(start, middle, t.rows) as row:
                self._write_rows(to, memory, row, t.rows, inside=True)
            with to.loop(middle, stop) as row:
                self._write_rows(to, memory, row, 1, inside=False)
            self._add_block(to, memory, sums)
        to.build.ret_void()
        return to.function

    def _padded_weight(self, to: _Writer) -> ir.Value:
        """Copy W to the stack: the outputs padded, features side by side where they are so."""
        t = self.tile
        weight = to.slot(Slot.WEIGHT)
        padded = to.room(t.width, t.groups * t.vectors)
        for number in range(t.groups * t.vectors):
            to.store(to.zero(t.width), padded, number * t.width)
        with to.loop(0, self.n) as feature:
            row = self._outputs(to, weight, to.after((feature, self.o)))
            for number, part in enumerate(row):
                place = to.after((feature, t.vectors * t.lanes), (number, t.lanes))
                to.store(part, padded, place)
        return padded

    def _rows_read_behind(self) -> int:
        """Return how many rows from the last on must not be loaded by whole vectors."""
        t = self.tile
        outputs = t.vectors * t.lanes - self.o
        features = t.groups * t.beside - self.n
        return max(-(-outputs // self.o), -(-features // self.n))

    def _sums(self, memory: _Memory) -> list[tuple[ir.Value, int, int]]:
        t = self.tile
        return [
            (memory.weight_sums, t.width, t.groups * t.vectors),
            (memory.bias_sums, t.lanes, t.vectors),
        ]

    def _write_rows(
        self, to: _Writer, memory: _Memory, row: ir.Value, count: int, *, inside: bool
    ) -> None:
        """Write what is done with some rows that go together."""
        t = self.tile
        x = [to.at(memory.x, to.after((row, self.n), (k, self.n))) for k in range(count)]
        kept: dict[tuple[int, int], ir.Value] = {}

        def spread(number: int, group: int) -> ir.Value:
            """Return features of a row, each in as many lanes as there are outputs."""
            first = group * t.beside
            if inside:
                found = to.load(x[number], first, t.beside)
            else:
                found = to.gather(x[number], first, min(t.beside, self.n - first), t.beside)
            return to.pick(found, [lane // t.lanes for lane in range(t.width)])

        def outputs(number: int) -> list[ir.Value]:
            place = to.after((row, self.o), (number, self.o))
            if not inside:
                return self._outputs(to, memory.y, place)
            return [
                to.load(to.at(memory.y, place), part * t.lanes, t.lanes)
                for part in range(t.vectors)
            ]

        given = [outputs(number) for number in range(count)]
        residuals = given
        if memory.weight is not None:
            residuals = self._residuals(to, memory, given, spread, kept)
        for part in range(t.vectors):
            total = to.load(memory.bias_sums, part * t.lanes, t.lanes)
            for residual in residuals:
                total = to.build.fadd(total, residual[part])
            to.store(total, memory.bias_sums, part * t.lanes)
        if t.beside > 1:
            everywhere = [lane % t.lanes for lane in range(t.width)]
            residuals = [[to.pick(residual[0], everywhere)] for residual in residuals]
        elif memory.weight is not None:
            to.forget()
            kept.clear()
        for group in range(t.groups):
            for part in range(t.vectors):
                place = (group * t.vectors + part) * t.width
                total = to.load(memory.weight_sums, place, t.width)
                for number in range(count):
                    features = kept.get((number, group))
                    if features is None:
                        features = kept[number, group] = spread(number, group)
                    total = to.multiply_add(features, residuals[number][part], total)
                to.store(total, memory.weight_sums, place)

    def _residuals(
        self,
        to: _Writer,
        memory: _Memory,
        targets: list[list[ir.Value]],
        spread: Callable[[int, int], ir.Value],
        kept: dict[tuple[int, int], ir.Value],
    ) -> list[list[ir.Value]]:
        """Write r = xW + b − y of each row; what is spread of x is left in `kept`."""
        t, build = self.tile, to.build
        assert memory.weight is not None
        offsets = [
            [build.fsub(b, y) for b, y in zip(memory.bias, target, strict=True)]
            for target in targets
        ]
        sums = offsets if t.beside == 1 else [[to.zero(t.width)] for _ in targets]
        for group in range(t.groups):
            weights = [
                to.load(memory.weight, (group * t.vectors + part) * t.width, t.width)
                for part in range(t.vectors)
            ]
            for number, total in enumerate(sums):
                features = kept[number, group] = spread(number, group)
                for part, weight in enumerate(weights):
                    total[part] = to.multiply_add(features, weight, total[part])
        if t.beside == 1:
            return sums
        return [
            [build.fadd(self._folded(to, total), offset)]
            for (total,), (offset,) in zip(sums, offsets, strict=True)
        ]

    def _folded(self, to: _Writer, total: ir.Value) -> ir.Value:
        """Add up the features that lie side by side."""
        width = self.tile.width
        while width > self.tile.lanes:
            width //= 2
            low = to.pick(total, range(width))
            total = to.build.fadd(low, to.pick(total, range(width, 2 * width)))
        return total

    def _add_block(self, to: _Writer, memory: _Memory, sums: ir.Value) -> None:
        """Add the sums over a block to those over all, in float64."""
        offset = 0
        for part, lanes, count in self._sums(memory):
            for number in range(count):
                value = to.widen(to.load(part, number * lanes, lanes))
                place = to.at(sums, offset + number * lanes, _DOUBLE)
                so_far = to.build.load(place, typ=value.type, align=8)
                to.build.store(to.build.fadd(so_far, value), place, align=8)
            offset += count * lanes

    def _write_finish(self, to: _Writer) -> ir.Function:
        """Write what is done with the sums of all parts: they are added to the first, and used."""
        t = self.tile
        sums, parts = to.slot(Slot.SUMS), to.slot(Slot.PARTS)
        with to.loop(1, parts) as part, to.loop(0, t.sums) as index:
            place = to.at(sums, index, _DOUBLE)
            more = to.at(sums, to.after((part, t.sums), (index, 1)), _DOUBLE)
            total = to.build.fadd(
                to.build.load(place, typ=_DOUBLE), to.build.load(more, typ=_DOUBLE)
            )
            to.build.store(total, place)
        with to.loop(0, self.n) as feature:
            target = to.at(to.slot(Slot.WEIGHT), to.after((feature, self.o)))
            self._use(to, target, to.at(sums, to.after((feature, t.bias_sums)), _DOUBLE))
        self._use(to, to.slot(Slot.BIAS), to.at(sums, t.weight_sums, _DOUBLE))
        to.build.ret_void()
        return to.function

    def _use(self, to: _Writer, target: ir.Value, sums: ir.Value) -> None:
        """Subtract η times the sums from the parameters, or write them out as the gradient."""
        build = to.build
        for output in range(self.o):
            place = to.at(target, output)
            value = build.load(to.at(sums, output, _DOUBLE), typ=_DOUBLE)
            if self.stage == "step":
                before = to.widen(build.load(place, typ=to.item))
                value = build.fsub(before, build.fmul(to.slot(Slot.RATE), value))
            if to.item != _DOUBLE:
                value = build.fptrunc(value, to.item)
            build.store(value, place)
