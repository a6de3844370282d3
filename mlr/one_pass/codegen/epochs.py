"""The sweep with the parameters of many epochs side by side: the losses of all by reading X once.

A vector holds one parameter of several epochs, as many as it has lanes, so that none is ever empty,
a number of X or Y is the same in all lanes, and a lane sums the squares of its epoch alone.
R = XW + b − Y for all of them is one product, which goes tile by tile as in `tiles.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llvmlite import ir

from .target import Target
from .tiles import HELD, multiply
from .writer import (
    DOUBLE,
    INT,
    LOSSES,
    SIZES,
    Argument,
    ParameterSpan,
    Writer,
    whole_lines,
)

_BLOCK = 240  # rows whose squares add up in the working precision: whole tiles of any height


@dataclass(frozen=True)
class EpochVectorised:
    """How epochs lie in vectors.

    Attributes:
        n: Features.
        o: Outputs.
        lanes: Epochs in a vector.
        size: Bytes of an item.
        vectors: Vectors of a whole tile.
        held: Residuals, in vectors, that stay in registers.
        cache_line: Bytes of a cache line of the target.
    """

    n: int
    o: int
    lanes: int
    size: int
    vectors: int
    held: int
    cache_line: int = 64

    @classmethod
    def of(cls, n: int, o: int, dtype: str, target: Target) -> EpochVectorised:
        """Lay out n features and o outputs for a target.

        >>> EpochVectorised.of(6, 3, "float64", Target(64, 32))
        EpochVectorised(n=6, o=3, lanes=8, size=8, vectors=4, held=24, cache_line=64)
        >>> EpochVectorised.of(6, 1, "float32", Target(64, 32)).vectors
        1
        """
        size = SIZES[dtype]
        lanes = target.vector_bytes // size
        held, most = HELD[target.registers]
        return cls(n, o, lanes, size, min(most, o * LOSSES // lanes), held, target.cache_line)

    @property
    def name(self) -> str:
        """A name that no other layout has."""
        return f"{self.n}x{self.o}_epochs{self.lanes}"

    @property
    def squares(self) -> range:
        """Which sums are those of the squares of R: one for each epoch."""
        return range(LOSSES)

    def summed(self, operation: str) -> int:
        """Return how many float64 numbers a sweep adds up."""
        return LOSSES

    def doubles(self, operation: str) -> int:
        """Return how many float64 numbers a part has room for: sums, and the parameters."""
        doubles = LOSSES + LOSSES * (self.n + 1) * self.o * self.size // 8
        return whole_lines(doubles, self.cache_line)

    def spans(self, to: Writer) -> Iterator[ParameterSpan]:
        """Yield nothing: the parameters stay as they are."""
        yield from ()

    def write(self, to: Writer, operation: str) -> None:
        """Write the sums over all rows."""
        self._copy_parameters(to)
        rows = to.argument(Argument.ROWS)
        with to.loop(0, rows, _BLOCK) as start:
            stop = to.minimum(to.build.add(start, INT(_BLOCK)), rows)
            for vectors, first in self._tiles(to):
                self._add_block(to, vectors, first, start, stop)

    def _tiles(self, to: Writer) -> Iterator[tuple[int, ir.Value]]:
        """Yield the width of tiles, in a loop over those of it, with the vector one begins at."""
        whole, left = divmod(self.o * LOSSES // self.lanes, self.vectors)
        with to.loop(0, whole) as number:
            yield self.vectors, to.offset((number, self.vectors))
        if left:
            yield left, INT(whole * self.vectors)

    def _place(self, to: Writer, first: ir.Value, number: int) -> tuple[ir.Value, ir.Value]:
        """Return which output a vector of a tile is of, and which epochs it holds: those from."""
        vector, of_an_output = to.build.add(first, INT(number)), INT(LOSSES // self.lanes)
        part = to.build.urem(vector, of_an_output)
        return to.build.udiv(vector, of_an_output), to.offset((part, self.lanes))

    def _parameters(self, to: Writer, first: ir.Value) -> ir.Value:
        """Return where those of a tile lie: a row of vectors for each feature, and one of b."""
        everywhere = to.gep(to.argument(Argument.SUMS), LOSSES, DOUBLE)
        return to.gep(everywhere, to.offset((first, (self.n + 1) * self.lanes)))

    def _copy_parameters(self, to: Writer) -> None:
        """Copy the parameters, epoch after epoch, to where they lie in tiles."""
        given, of_an_epoch = to.argument(Argument.WEIGHT), (self.n + 1) * self.o
        for vectors, first in self._tiles(to):
            base = self._parameters(to, first)
            for number in range(vectors):
                output, epoch = self._place(to, first, number)
                with to.loop(0, self.n + 1) as row:
                    for lane in range(self.lanes):
                        place = to.offset((epoch, of_an_epoch), (lane, of_an_epoch),
                                          (row, self.o), (output, 1))  # fmt: skip
                        item = to.build.load(to.gep(given, place), typ=to.item)
                        into = to.offset(
                            (row, vectors * self.lanes), (number, self.lanes), (lane, 1)
                        )
                        to.build.store(item, to.gep(base, into))

    def _add_block(
        self, to: Writer, vectors: int, first: ir.Value, start: ir.Value, stop: ir.Value
    ) -> None:
        """Add the squares of a tile over some rows up, and to those over all in float64."""
        at_once, totals = self.held // vectors, to.alloca(self.lanes, vectors)
        for number in range(vectors):
            to.store(to.zero(self.lanes), totals, number * self.lanes)
        middle = to.build.sub(stop, to.build.urem(to.build.sub(stop, start), INT(at_once)))
        for begin, end, count in ((start, middle, at_once), (middle, stop, 1)):
            with to.loop(begin, end, count) as row:
                residuals = self._residuals(to, vectors, first, row, count)
                for number in range(vectors):
                    total = to.load(totals, number * self.lanes, self.lanes)
                    for residual in residuals:
                        total = to.multiply_add(residual[number], residual[number], total)
                    to.store(total, totals, number * self.lanes)
        for number in range(vectors):
            _, epoch = self._place(to, first, number)
            total = to.load(totals, number * self.lanes, self.lanes)
            to.add_double(total, to.argument(Argument.SUMS), epoch)

    def _residuals(
        self, to: Writer, vectors: int, first: ir.Value, row: ir.Value, count: int
    ) -> list[list[ir.Value]]:
        """Write R of a tile and some rows that go together."""
        weight, lanes = self._parameters(to, first), self.lanes
        x, y = to.argument(Argument.X), to.argument(Argument.Y)
        begun: list[list[ir.Value]] = [[] for _ in range(count)]
        for number in range(vectors):
            output, _ = self._place(to, first, number)
            bias = to.load(weight, (self.n * vectors + number) * lanes, lanes)
            for together, one in enumerate(begun):
                place = to.offset((row, self.o), (together, self.o), (output, 1))
                one.append(to.build.fsub(bias, to.load_broadcast(y, place, lanes)))
        start = to.gep(x, to.offset((row, self.n)))
        return multiply(to, begun, self.n, (start, 1, self.n), weight)
