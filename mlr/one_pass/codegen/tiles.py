"""The sweep for a wide W: a block of rows stays in the cache between the two products.

Both products go tile by tile of outputs, a few vectors wide: first R = XW + b − Y of a block, some
rows at a time, then G += XᵀR, some features at a time, as many as keep the tile's sums in registers
until the loop is done. W, R and G lie tile after tile, so that each loop reads on without a gap.
Libraries of BLAS do likewise, but X is not copied here, and is read from memory once, not twice.

Source: Goto and van de Geijn (2008), Anatomy of high-performance matrix multiplication,
doi:10.1145/1356052.1356053.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from llvmlite import ir

from .sums import Sums
from .target import Target
from .writer import (
    DOUBLE,
    INT,
    SIZES,
    WITH_LOSS,
    Argument,
    ParameterSpan,
    Writer,
    power_of_two,
    whole_lines,
)

_MOST_ROWS = 256  # of a block: what a sum adds up in the working precision
# Of a gradient, whose rows are read far apart: 10,000 of 256 → 64 take 0.77 of the time of 256 rows
# in float64, and as long as those in float32.
_GRADIENT_COLUMN_BYTES = 1_024
_BLOCK_BYTES = 2**20  # of X: about a second cache
# Bytes of wider rows lie too far apart, a few features at a time, for the processor to see them
# coming: of 10,000 rows from memory a gradient of 256 → 64 takes half the time in float64, nine
# tenths in float32. A step has read the rows before.
_PREFETCHED_FROM = 512
HELD = {32: (24, 4), 16: (12, 2)}  # by the registers: sums in them, and vectors of a tile


class _Tile(NamedTuple):
    """Tiles of one width: written once, in a loop over them.

    Attributes:
        vectors: Vectors of a tile.
        first: The output that the first one begins at.
        many: How many there are.
        outputs: Outputs of a tile: fewer than its vectors hold where the last one is not full.
        at_once: Rows, or features, whose sums over a tile stay in registers.
    """

    vectors: int
    first: int
    many: int
    outputs: int
    at_once: int


@dataclass(frozen=True)
class Tiles(Sums):
    """How outputs lie in tiles.

    Attributes:
        n: Features.
        o: Outputs.
        lanes: Outputs in a vector.
        size: Bytes of an item.
        vectors: Vectors of a whole tile.
        held: Sums, in vectors, that stay in registers.
        block: Rows of a block.
        cache_line: Bytes of a cache line of the target.
    """

    n: int
    o: int
    lanes: int
    size: int
    vectors: int
    held: int
    block: int
    cache_line: int = 64

    @classmethod
    def of(cls, n: int, o: int, dtype: str, target: Target, operation: str = "step") -> Tiles:
        """Lay out n features and o outputs for a target.

        >>> Tiles.of(256, 64, "float64", Target(64, 32))
        Tiles(n=256, o=64, lanes=8, size=8, vectors=4, held=24, block=240, cache_line=64)
        >>> Tiles.of(1024, 40, "float64", Target(32, 16))
        Tiles(n=1024, o=40, lanes=4, size=8, vectors=2, held=12, block=120, cache_line=64)
        """
        size = SIZES[dtype]
        lanes = target.vector_bytes // size
        held, most = HELD[target.registers]
        rows = _GRADIENT_COLUMN_BYTES // size if operation == "gradient" else _MOST_ROWS
        block = max(held, min(rows, _BLOCK_BYTES // (n * size)))
        block -= block % held  # or rows are left over in each, which go one by one
        vectors = min(most, -(-o // lanes))
        return cls(n, o, lanes, size, vectors, held, block, target.cache_line)

    @property
    def name(self) -> str:
        """A name that no other layout has."""
        return f"{self.n}x{self.o}_tiles{self.lanes}x{self.vectors}of{self.held}"

    @property
    def stride(self) -> int:
        """Outputs of a row, padded to whole vectors."""
        return -(-self.o // self.lanes) * self.lanes

    def doubles(self, operation: str) -> int:
        """Return how many float64 numbers a part has room for: sums, R of a block, W if given."""
        rows = self.block + (self.n if operation != "gradient" else 0)
        other = -(-rows * self.stride * self.size // 8)
        return whole_lines(self.summed(operation) + other, self.cache_line)

    @property
    def tiles(self) -> list[_Tile]:
        """The tiles: the whole ones, then one for what is left."""
        width = self.vectors * self.lanes
        whole, left = divmod(self.o, width)
        found = [_Tile(self.vectors, 0, whole, width, self.held // self.vectors)] if whole else []
        if left:
            vectors = -(-left // self.lanes)
            found.append(_Tile(vectors, whole * width, 1, left, self.held // vectors))
        return found

    def write(self, to: Writer, operation: str) -> None:
        """Write the sums over all rows."""
        blocks = _Blocks(self, to, operation)
        if operation != "gradient":
            blocks.copy_weight()
        rows = to.argument(Argument.ROWS)
        with to.loop(0, rows, self.block) as start:
            count = to.build.sub(to.minimum(to.build.add(start, INT(self.block)), rows), start)
            if operation == "gradient" and self.n * self.size > _PREFETCHED_FROM:
                blocks.prefetch_features(rows, start, count)
            blocks.write_residuals(start, count)
            if operation != "loss":
                blocks.write_sums(start, count)

    def spans(self, to: Writer) -> Iterator[ParameterSpan]:
        """Yield which sums are which parameters', in loops over them."""
        for tile, start in _in_turn(self, to):
            width = tile.vectors * self.lanes
            with to.loop(0, self.n) as feature:
                target = to.offset((feature, self.o), (start, 1))
                sums = to.offset((start, self.n), (feature, width))
                yield ParameterSpan(Argument.WEIGHT, target, sums, tile.outputs)
            sums = to.offset((start, 1), (self.weight_sums, 1))
            yield ParameterSpan(Argument.BIAS, start, sums, tile.outputs)


def _in_turn(layout: Tiles, to: Writer) -> Iterator[tuple[_Tile, ir.Value]]:
    """Yield each width of tiles, in a loop over those of it, with the output that one begins at."""
    for tile in layout.tiles:
        with to.loop(0, tile.many) as number:
            yield tile, to.offset((number, tile.vectors * layout.lanes), (tile.first, 1))


def multiply(
    to: Writer,
    begun: list[list[ir.Value]],
    length: int | ir.Value,
    left: tuple[ir.Value, int, int],
    right: ir.Value,
    ahead: tuple[ir.Value, int] | None = None,
) -> list[list[ir.Value]]:
    """Write a matrix product onto what is begun, rows of vectors, all of it in registers.

    Of the left factor: where it begins, from one number of a sum to the next, from one sum to the
    next. The rows of the right factor lie one behind the other. What is wanted afterwards, given
    by its address and its bytes, is asked for meanwhile, a cache line with each number of a sum.
    """
    lanes, width = begun[0][0].type.count, len(begun[0])
    base, along, across = left
    places = [[to.alloca(lanes, 1) for _ in one] for one in begun]
    for place, value in zip(chain(*places), chain(*begun), strict=True):
        to.store(value, place, 0)
    with to.loop(0, length) as index:
        row = to.gep(right, to.offset((index, width * lanes)))
        vectors = [to.load(row, number * lanes, lanes) for number in range(width)]
        start = to.gep(base, to.offset((index, along)))
        if ahead is not None:
            wanted, count = ahead
            lines = power_of_two(-(-count // to.cache_line))  # again and again: the loop may evict
            line = to.build.and_(index, INT(lines - 1))
            to.prefetch(to.gep(wanted, to.offset((line, to.cache_line // to.size))))
        for number, sums in enumerate(places):
            factor = to.load_broadcast(start, number * across, lanes)
            for place, vector in zip(sums, vectors, strict=True):
                so_far = to.load(place, 0, lanes)
                to.store(to.multiply_add(factor, vector, so_far), place, 0)
    return [[to.load(place, 0, lanes) for place in one] for one in places]


class _Blocks:
    """Writes what is done with a block of rows. R, W and the sums of the part lie tile by tile."""

    def __init__(self, layout: Tiles, to: Writer, operation: str) -> None:
        self.layout, self.to, self.lanes = layout, to, layout.lanes
        self.x, self.y, self.bias = (
            to.argument(Argument.X),
            to.argument(Argument.Y),
            to.argument(Argument.BIAS),
        )
        self.operation = operation
        self.sums = to.argument(Argument.SUMS)
        self.residuals = to.gep(self.sums, layout.summed(operation), DOUBLE)
        self.weight = to.gep(self.residuals, layout.block * layout.stride)

    def copy_weight(self) -> None:
        """Copy W to where it lies tile by tile."""
        to, given = self.to, self.to.argument(Argument.WEIGHT)
        for tile, start in _in_turn(self.layout, to):
            base = to.gep(self.weight, to.offset((start, self.layout.n)))
            with to.loop(0, self.layout.n) as feature:
                place = to.offset((feature, self.layout.o), (start, 1))
                self._put(tile, base, feature, self._outputs(tile, given, place))

    def prefetch_features(self, rows: ir.Value, start: ir.Value, count: ir.Value) -> None:
        """Ask for a block's rows of X, of more than one block, in the order in which they lie."""
        to, n = self.to, self.layout.n
        first = to.gep(self.x, to.offset((start, n)))
        more = to.build.icmp_signed(">", rows, INT(self.layout.block))
        stop = to.build.select(more, to.offset((count, n)), INT(0))
        with to.loop(0, stop, self.layout.cache_line // self.layout.size) as place:
            to.prefetch(to.gep(first, place))

    def write_residuals(self, start: ir.Value, count: ir.Value) -> None:
        """Write R of a block of rows, and add it to g, and its squares to theirs."""
        to = self.to
        for tile, output in _in_turn(self.layout, to):
            middle = to.build.sub(count, to.build.urem(count, INT(tile.at_once)))
            with to.loop(0, middle, tile.at_once) as row:
                self._write_rows(tile, output, start, row, tile.at_once)
            with to.loop(middle, count) as row:
                self._write_rows(tile, output, start, row, 1)

    def write_sums(self, start: ir.Value, count: ir.Value) -> None:
        """Add XᵀR of a block of rows to G."""
        n = self.layout.n
        x = self.to.gep(self.x, self.to.offset((start, n)))
        for tile, output in _in_turn(self.layout, self.to):
            left = n % tile.at_once
            with self.to.loop(0, n - left, tile.at_once) as feature:
                self._add_features(tile, output, x, count, feature, tile.at_once)
            if left:
                self._add_features(tile, output, x, count, INT(n - left), left)

    def _write_rows(
        self, tile: _Tile, output: ir.Value, start: ir.Value, row: ir.Value, count: int
    ) -> None:
        """Write R of some rows that go together."""
        to, layout = self.to, self.layout
        first = to.build.add(start, row)
        totals = []
        for number in range(count):
            place = to.offset((first, layout.o), (number, layout.o), (output, 1))
            totals.append(self._outputs(tile, self.y, place))
        if self.operation != "gradient":
            bias = self._outputs(tile, self.bias, output)
            begun = [[to.build.fsub(b, y) for b, y in zip(bias, t, strict=True)] for t in totals]
            weight = to.gep(self.weight, to.offset((output, layout.n)))
            x = to.gep(self.x, to.offset((first, layout.n)))
            totals = multiply(to, begun, layout.n, (x, 1, layout.n), weight)
        if self.operation in WITH_LOSS:
            squares = [[to.build.fmul(r, r) for r in total] for total in totals]
            self._add_over_rows(squares, layout.squares.start, output)
        if self.operation == "loss":
            return
        base = to.gep(self.residuals, to.offset((output, layout.block)))
        for number, total in enumerate(totals):
            self._put(tile, base, to.build.add(row, INT(number)), total)
        self._add_over_rows(totals, layout.weight_sums, output)

    def _add_over_rows(self, rows: list[list[ir.Value]], first: int, output: ir.Value) -> None:
        """Add vectors of outputs up over rows, and to the sums of the outputs from `first` on."""
        to = self.to
        for number, (one, *others) in enumerate(zip(*rows, strict=True)):
            over_rows = one
            for other in others:
                over_rows = to.build.fadd(over_rows, other)
            place = to.offset((first, 1), (output, 1), (number, self.lanes))
            to.add_double(over_rows, self.sums, place)

    def _add_features(
        self,
        tile: _Tile,
        output: ir.Value,
        x: ir.Value,
        rows: ir.Value,
        first: ir.Value,
        count: int,
    ) -> None:
        """Add xᵀr over the rows to G, of some features that go together.

        Of a wide W their sums come from the last cache. Where they are asked for meanwhile, a step
        of 1,000 × 1,024 → 256 takes 0.95 of the time in float64 and 0.96 in float32.
        """
        to, layout = self.to, self.layout
        begun = [[to.zero(self.lanes)] * tile.vectors for _ in range(count)]
        residuals = to.gep(self.residuals, to.offset((output, layout.block)))
        width = tile.vectors * self.lanes
        own = to.offset((output, layout.n), (first, width))
        ahead = to.gep(self.sums, own, DOUBLE), 8 * count * width
        left = to.gep(x, first), layout.n, 1
        totals = multiply(to, begun, rows, left, residuals, ahead)
        for number, total in enumerate(totals):
            for vector, value in enumerate(total):
                place = to.offset((own, 1), (number, width), (vector, self.lanes))
                to.add_double(value, self.sums, place)

    def _outputs(self, tile: _Tile, base: ir.Value, place: ir.Value) -> list[ir.Value]:
        """Load a tile's outputs of a row that is not padded, and nothing behind them."""
        start, found = self.to.gep(base, place), []
        for number in range(tile.vectors):
            there = tile.outputs - number * self.lanes
            if there >= self.lanes:
                found.append(self.to.load(start, number * self.lanes, self.lanes))
            else:
                wanted = self.to.lane_mask(INT(there), self.lanes)
                found.append(self.to.masked_load(wanted, start, number * self.lanes))
        return found

    def _put(self, tile: _Tile, base: ir.Value, row: ir.Value, values: list[ir.Value]) -> None:
        """Store a row of a tile among the rows of that tile."""
        width = tile.vectors * self.lanes
        for number, value in enumerate(values):
            place = self.to.offset((row, width), (number, self.lanes))
            self.to.store(value, base, place)
