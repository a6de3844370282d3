"""The sweep with the outputs of a row side by side in a vector.

They are padded to a power of two. Where that is but a part of the machine's vectors, several
features lie side by side in one: x is spread over them, W and G lie in memory like that anyhow, and
r is folded from them. Several rows go together, so that W and G are loaded once for all of them.
Where outputs would leave half of a vector or more empty, and features fill some, the sums are those
of Gᵀ, with features side by side and all of them in registers, and are turned at a block's end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llvmlite import ir

from .sums import Sums
from .target import Target
from .writer import (
    BLOCK,
    INT,
    SIZES,
    WITH_LOSS,
    Argument,
    ParameterSpan,
    Writer,
    power_of_two,
)

_TOGETHER = 8  # rows, as far as their residuals fit: hides the latency of a multiply-add
_FEATURES_PER_LANE = 4  # fewer for each place side by side, and folding costs what it saves
_SPARE = 2  # registers beside sums, W and what there is of the rows: vectors of x
# Vectors of features from which on the sums are those of Gᵀ. With fewer, turning them costs a step
# of few rows more than it saves; with two, 16 → 4 took 1.06 times as long at any number of rows.
_FEATURE_VECTORS = {"gradient": 1, "step": 3, "train": 3}
_PADDING = 0.1  # of the features, at most: 20 → 4 in vectors of eight took 1.15 times as long
_WRITTEN_OUT = 32  # features whose W is padded without a loop, and so without the stack


class _Memory(NamedTuple):
    """Where the inputs lie, and on the stack the padded W and b and the sums over a block.

    Those of the gradient are two or none, and those of the squares of R one or none. `residuals` is
    room for those of the rows that go together.
    """

    x: ir.Value
    y: ir.Value
    weight: ir.Value | None
    bias: Sequence[ir.Value]
    gradient_sums: tuple[ir.Value, ...]
    square_sums: ir.Value | None
    residuals: ir.Value


@dataclass(frozen=True)
class OutputVectorised(Sums):
    """How a row lies in vectors.

    Attributes:
        n: Features.
        o: Outputs.
        lanes: Outputs in one vector, padded.
        vectors: Vectors that hold all outputs.
        features_per_vector: Features side by side in one vector; more than one only where `vectors`
            is 1.
        rows: Rows that go together.
        feature_lanes: Features in one vector of the sums, where these are Gᵀ; 0 where they are G.
        cache_line: Bytes of a cache line of the target.
        registers: How many vectors the target keeps in registers.
    """

    n: int
    o: int
    lanes: int
    vectors: int
    features_per_vector: int
    rows: int
    feature_lanes: int = 0
    cache_line: int = 64
    registers: int = 32

    @classmethod
    def of(
        cls, n: int, o: int, dtype: str, target: Target, operation: str = "step"
    ) -> OutputVectorised:
        """Lay out n features and o outputs for a target.

        >>> OutputVectorised.of(6, 3, "float64", Target(64, 32))  # doctest: +ELLIPSIS
        OutputVectorised(n=6, o=3, lanes=4, vectors=1, features_per_vector=1, rows=8, ...)
        >>> OutputVectorised.of(32, 4, "float32", Target(64, 32))  # doctest: +ELLIPSIS
        OutputVectorised(n=32, o=4, lanes=4, vectors=1, features_per_vector=4, rows=2, ...)
        >>> OutputVectorised.of(32, 4, "float64", Target(64, 32)).feature_lanes
        8
        """
        most = target.vector_bytes // SIZES[dtype]
        lanes = power_of_two(min(o, most))
        vectors = -(-o // lanes)
        features = 1  # side by side in one vector
        if lanes * 4 <= most:
            while lanes * features < most and n >= 2 * features * _FEATURES_PER_LANE:
                features *= 2
        rows = 2 if features > 1 else max(1, _TOGETHER // vectors)
        groups = -(-n // most)  # of features, in vectors of G
        in_registers = o * groups + rows + 2 * _SPARE <= target.registers
        many = _FEATURE_VECTORS.get(operation, math.inf) <= groups <= (1 + _PADDING) * n / most
        apart = features == 1 and lanes < most and many and in_registers
        feature_lanes = most if apart else 0
        return cls(n, o, lanes, vectors, features, rows, feature_lanes, target.cache_line,
                   target.registers)  # fmt: skip

    @property
    def name(self) -> str:
        """A name that no other layout has."""
        return f"{self.n}x{self.o}_outputs{self.lanes}x{self.features_per_vector}"

    @property
    def groups(self) -> int:
        """Vectors over all features."""
        return -(-self.n // self.features_per_vector)

    @property
    def width(self) -> int:
        """Lanes of a whole vector."""
        return self.lanes * self.features_per_vector

    @property
    def padded_features(self) -> int:
        """Features of the padded G."""
        together = self.feature_lanes or self.features_per_vector
        return -(-self.n // together) * together

    @property
    def weight_sums(self) -> int:
        """How many numbers the padded G is."""
        return self.padded_features * self.stride

    @property
    def stride(self) -> int:
        """How many numbers lie from one feature's sums to the next's."""
        return self.vectors * self.lanes

    @property
    def _room(self) -> int:
        """How many registers the sums leave to W; fewer than none if they do not fit themselves."""
        of_rows = self.groups if self.features_per_vector > 1 else self.rows * self.vectors
        _, sums = self._weight_vectors
        return self.registers - _SPARE - of_rows - sums - self.vectors

    @property
    def _held(self) -> bool:
        """Whether W stays in registers."""
        return self.groups * self.vectors <= self._room

    def spans(self, to: Writer) -> Iterator[ParameterSpan]:
        """Yield which sums are which parameters', in loops over them."""
        with to.loop(0, self.n) as feature:
            target, sums = to.offset((feature, self.o)), to.offset((feature, self.stride))
            yield ParameterSpan(Argument.WEIGHT, target, sums, self.o)
        yield ParameterSpan(Argument.BIAS, INT(0), INT(self.weight_sums), self.o)

    def write(self, to: Writer, operation: str) -> None:
        """Write the sums over all rows."""
        # Taken before any loop, without which LLVM would not keep them in registers.
        gradient_sums: tuple[ir.Value, ...] = ()
        if operation != "loss":
            gradient_sums = to.alloca(*self._weight_vectors), to.alloca(self.lanes, self.vectors)
        square_sums = to.alloca(self.lanes, self.vectors) if operation in WITH_LOSS else None
        residuals = to.alloca(self.lanes, self.rows)
        weight, bias = None, [to.zero(self.lanes)] * self.vectors
        if operation != "gradient":
            weight = self._padded_weight(to)
            bias = self._outputs(to, to.argument(Argument.BIAS), 0)
        x, y = to.argument(Argument.X), to.argument(Argument.Y)
        memory = _Memory(x, y, weight, bias, gradient_sums, square_sums, residuals)
        sums, rows = to.argument(Argument.SUMS), to.argument(Argument.ROWS)
        # Up to here a row may be read with what lies behind it.
        inside = to.build.sub(rows, INT(self._rows_read_behind()))
        with to.loop(0, rows, BLOCK) as start:
            for part, _, lanes, count in self._sums(memory):
                for number in range(count):
                    to.store(to.zero(lanes), part, number * lanes)
            stop = to.minimum(to.build.add(start, INT(BLOCK)), rows)
            middle = to.end_of_groups(start, stop, inside, self.rows)
            with to.loop(start, middle, self.rows) as row:
                lines = self._ask_for_rows(to, memory, row)
                self._write_rows(to, memory, row, self.rows, lines, inside=True)
            with to.loop(middle, stop) as row:
                self._write_rows(to, memory, row, 1, inside=False)
            self._add_block(to, memory, sums)

    def _ask_for_rows(self, to: Writer, memory: _Memory, row: ir.Value) -> Sequence[ir.Value]:
        """Ask for rows ahead, or return their lines, to be asked for one by one.

        That is so where both products are made and rows fill a line: with inputs from memory a step
        of 16 → 8 in float64 so takes 0.82 of the time, of 64 → 16 0.72 to 0.79. Wide rows that are
        read once, those of one product or one output, a processor foresees better itself.
        """
        twice = memory.weight is not None and len(memory.gradient_sums) > 0
        apart = twice and self.n * to.size >= self.cache_line
        half = apart and self.features_per_vector == 1
        wide = (twice and self.o > 1) or self.vectors > 1
        inputs = (memory.x, self.n), (memory.y, self.o)
        lines = to.lines_ahead(row, self.rows, *inputs, half=half, wide=wide)
        if apart:
            return lines
        to.prefetch(*lines)
        return ()

    def _outputs(self, to: Writer, base: ir.Value, index: int | ir.Value) -> list[ir.Value]:
        """Load the outputs of one row, and nothing behind them."""
        lanes = self.lanes
        return [
            to.gather(to.gep(base, index), first, min(lanes, self.o - first), lanes)
            for first in range(0, self.o, lanes)
        ]

    def _padded_weight(self, to: Writer) -> ir.Value:
        """Return where W lies in whole vectors: a copy on the stack if it has to be padded."""
        weight = to.argument(Argument.WEIGHT)
        if self.groups * self.vectors * self.width == self.n * self.o:
            return weight
        padded = to.alloca(self.width, self.groups * self.vectors)
        for number in range(self.groups * self.vectors):
            to.store(to.zero(self.width), padded, number * self.width)
        for feature in to.each(self.n, written_out=self._held and self.n <= _WRITTEN_OUT):
            row = self._outputs(to, weight, to.offset((feature, self.o)))
            for number, part in enumerate(row):
                to.store(part, padded, to.offset((feature, self.stride), (number, self.lanes)))
        return padded

    def _rows_read_behind(self) -> int:
        """Return how many rows from the last on must not be loaded by whole vectors."""
        outputs = self.vectors * self.lanes - self.o
        features = self.padded_features - self.n
        return max(-(-outputs // self.o), -(-features // self.n))

    @property
    def _weight_vectors(self) -> tuple[int, int]:
        """Lanes and number of the vectors that sum G over a block."""
        if self.feature_lanes:
            return self.feature_lanes, self.o * self.padded_features // self.feature_lanes
        return self.width, self.groups * self.vectors

    def _sums(self, memory: _Memory) -> list[tuple[ir.Value, int, int, int]]:
        """Return the sums over a block: where they lie, where among all sums, lanes and vectors."""
        found = []
        if memory.gradient_sums:
            weight, bias = memory.gradient_sums
            found = [
                (weight, 0, *self._weight_vectors),
                (bias, self.weight_sums, self.lanes, self.vectors),
            ]
        if memory.square_sums is not None:
            found.append((memory.square_sums, self.squares.start, self.lanes, self.vectors))
        return found

    def _write_rows(
        self,
        to: Writer,
        memory: _Memory,
        row: ir.Value,
        count: int,
        lines: Sequence[ir.Value] = (),
        *,
        inside: bool,
    ) -> None:
        """Write what is done with some rows; while they are added to G, lines are asked for."""
        x = [to.gep(memory.x, to.offset((row, self.n), (k, self.n))) for k in range(count)]
        kept: dict[tuple[int, int], ir.Value] = {}

        def spread(number: int, group: int) -> ir.Value:
            """Return features of a row, each in as many lanes as there are outputs."""
            together = self.features_per_vector
            first = group * together
            if inside:
                found = to.load(x[number], first, together)
            else:
                found = to.gather(x[number], first, min(together, self.n - first), together)
            return to.shuffle(found, [lane // self.lanes for lane in range(self.width)])

        def outputs(number: int) -> list[ir.Value]:
            place = to.offset((row, self.o), (number, self.o))
            if not inside:
                return self._outputs(to, memory.y, place)
            return [
                to.load(to.gep(memory.y, place), part * self.lanes, self.lanes)
                for part in range(self.vectors)
            ]

        residuals = [outputs(number) for number in range(count)]
        if memory.weight is not None:
            residuals = self._residuals(to, memory, residuals, spread, kept)
        if memory.square_sums is not None:
            self._add_squares(to, memory.square_sums, residuals)
        if not memory.gradient_sums:
            return
        weight_sums, bias_sums = memory.gradient_sums
        self._add_to_bias(to, bias_sums, residuals)
        if self.feature_lanes:
            self._add_by_features(to, memory, row, x, residuals, lines, inside=inside)
            return
        if self.features_per_vector > 1:
            everywhere = [lane % self.lanes for lane in range(self.width)]
            residuals = [[to.shuffle(residual[0], everywhere)] for residual in residuals]
        else:
            kept.clear()
        if memory.weight is not None and not (self._held and self.features_per_vector > 1):
            sums = memory.gradient_sums if self._room < 0 else ()
            to.clobber_memory(*sums, *() if self._held else (memory.weight,))
        self._add_to_weight(to, weight_sums, residuals, spread, kept, lines)

    def _add_by_features(
        self,
        to: Writer,
        memory: _Memory,
        row: ir.Value,
        x: list[ir.Value],
        residuals: list[list[ir.Value]],
        lines: Sequence[ir.Value],
        *,
        inside: bool,
    ) -> None:
        """Add rᵀx of some rows to Gᵀ: a number of r, out of memory, fills a vector."""
        lanes, sums = self.feature_lanes, memory.gradient_sums[0]
        place, stride = to.gep(memory.y, to.offset((row, self.o))), self.o
        if memory.weight is not None:
            place, stride = memory.residuals, self.lanes
            for number, (residual,) in enumerate(residuals):
                to.store(residual, place, number * stride)
            if not self._held:
                to.clobber_memory(place, memory.weight)
        for number, features in to.prefetch_among(lines, [*enumerate(x)]):
            vectors = []
            for first in range(0, self.n, lanes):
                if inside or first + lanes <= self.n:
                    vectors.append(to.load(features, first, lanes))
                else:
                    wanted = to.lane_mask(INT(self.n - first), lanes)
                    vectors.append(to.masked_load(wanted, features, first))
            for output in range(self.o):
                residual = to.load_broadcast(place, number * stride + output, lanes)
                for group, vector in enumerate(vectors):
                    index = (output * len(vectors) + group) * lanes
                    so_far = to.load(sums, index, lanes)
                    to.store(to.multiply_add(vector, residual, so_far), sums, index)

    def _add_to_weight(
        self,
        to: Writer,
        sums: ir.Value,
        residuals: list[list[ir.Value]],
        spread: Callable[[int, int], ir.Value],
        kept: dict[tuple[int, int], ir.Value],
        lines: Sequence[ir.Value],
    ) -> None:
        """Add xᵀr of some rows to G."""
        for group in to.prefetch_among(lines, range(self.groups)):
            for part in range(self.vectors):
                place = (group * self.vectors + part) * self.width
                total = to.load(sums, place, self.width)
                for number, residual in enumerate(residuals):
                    if (number, group) not in kept:
                        kept[number, group] = spread(number, group)
                    total = to.multiply_add(kept[number, group], residual[part], total)
                to.store(total, sums, place)

    def _add_to_bias(self, to: Writer, sums: ir.Value, residuals: list[list[ir.Value]]) -> None:
        """Add the residuals of some rows to g."""
        for part in range(self.vectors):
            total = to.load(sums, part * self.lanes, self.lanes)
            for residual in residuals:
                total = to.build.fadd(total, residual[part])
            to.store(total, sums, part * self.lanes)

    def _add_squares(self, to: Writer, sums: ir.Value, residuals: list[list[ir.Value]]) -> None:
        """Add the squares of the residuals of some rows, summed up before they wait for others."""
        for part in range(self.vectors):
            total = to.zero(self.lanes)
            for residual in residuals:
                total = to.multiply_add(residual[part], residual[part], total)
            so_far = to.load(sums, part * self.lanes, self.lanes)
            to.store(to.build.fadd(so_far, total), sums, part * self.lanes)

    def _residuals(
        self,
        to: Writer,
        memory: _Memory,
        targets: list[list[ir.Value]],
        spread: Callable[[int, int], ir.Value],
        kept: dict[tuple[int, int], ir.Value],
    ) -> list[list[ir.Value]]:
        """Write r = xW + b − y of each row; what is spread of x is left in `kept`."""
        build = to.build
        assert memory.weight is not None
        offsets = [
            [build.fsub(b, y) for b, y in zip(memory.bias, target, strict=True)]
            for target in targets
        ]
        sums = (
            offsets if self.features_per_vector == 1 else [[to.zero(self.width)] for _ in targets]
        )
        for group in range(self.groups):
            weights = [
                to.load(memory.weight, (group * self.vectors + part) * self.width, self.width)
                for part in range(self.vectors)
            ]
            for number, total in enumerate(sums):
                features = kept[number, group] = spread(number, group)
                for part, weight in enumerate(weights):
                    total[part] = to.multiply_add(features, weight, total[part])
        if self.features_per_vector == 1:
            return sums
        return [
            [build.fadd(self._fold(to, total), offset)]
            for (total,), (offset,) in zip(sums, offsets, strict=True)
        ]

    def _fold(self, to: Writer, total: ir.Value) -> ir.Value:
        """Add up the features that lie side by side."""
        width = self.width
        while width > self.lanes:
            width //= 2
            low = to.shuffle(total, range(width))
            total = to.build.fadd(low, to.shuffle(total, range(width, 2 * width)))
        return total

    def _add_block(self, to: Writer, memory: _Memory, sums: ir.Value) -> None:
        """Add the sums over a block to those over all, in float64."""
        for part, first, lanes, count in self._sums(memory):
            values = [to.load(part, number * lanes, lanes) for number in range(count)]
            if self.feature_lanes and part is memory.gradient_sums[0]:
                values = self._by_outputs(to, values)
            for number, value in enumerate(values):
                to.add_double(value, sums, first + number * lanes)

    def _by_outputs(self, to: Writer, sums: list[ir.Value]) -> list[ir.Value]:
        """Return the vectors of G, padded, of those of Gᵀ."""
        groups, found = len(sums) // self.o, []
        padding = [to.zero(self.feature_lanes)] * (self.lanes - self.o)
        for group in range(groups):
            found += to.interleave(sums[group::groups] + padding)
        return found
