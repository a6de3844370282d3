"""The sweep of a step with the features of a row side by side in a vector, for few outputs.

No lane is empty then, however few outputs there are. A number of XW is a product of two rows of
vectors, of x and of Wᵀ, whose lanes are added up for several rows at once: within 16 bytes first,
where shuffles are cheapest. Residuals go through the stack, from where each is loaded into all
lanes. The sums are those of Gᵀ, all in registers, and are turned at a block's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

from llvmlite import ir

from .sums import Sums
from .target import Target
from .writer import (
    BLOCK,
    GROUP_BYTES,
    INT,
    SIZES,
    WITH_LOSS,
    Argument,
    Writer,
    power_of_two,
)

_TOGETHER = 8  # rows: while some are multiplied, the residuals of others go through the stack
_AT_ONCE = 2  # rows for which a vector of W is loaded once
_SPARE = 12  # registers beside the sums


class _Memory(NamedTuple):
    """Where the inputs lie, and on the stack Wᵀ and Gᵀ, vector by vector, and numbers of rows.

    These are as many as go together, row by row of so many outputs: b for each, R, and what of R
    and its squares is summed up.
    """

    x: ir.Value
    y: ir.Value
    weight: ir.Value
    bias: ir.Value
    residuals: ir.Value
    weight_sums: ir.Value
    bias_sums: ir.Value
    square_sums: ir.Value | None


@dataclass(frozen=True)
class FeatureVectorised(Sums):
    """How features lie in vectors.

    Attributes:
        n: Features.
        o: Outputs.
        lanes: Features in a vector of the sums.
        product_lanes: Features in a vector of the products that are XW.
        cache_line: Bytes of a cache line of the target.
    """

    n: int
    o: int
    lanes: int
    product_lanes: int
    cache_line: int = 64

    @classmethod
    def of(
        cls, n: int, o: int, dtype: str, target: Target, operation: str = "step"
    ) -> FeatureVectorised | None:
        """Lay out n features and o outputs, or return None where that does not pay.

        It pays where there are several outputs, which fill three eighths of a vector at most, and
        features for two vectors, where all sums fit in registers, and where features are padded
        only if padding outputs would cost more. Where an instruction takes one half of a vector
        after the other, halves are no slower, and sooner added up. A step of 2,000 rows takes 0.64
        of the time at 64 → 4 and 32 → 3 in float32 and 0.83 at 32 → 4, and 0.77 to 0.93 at two or
        three outputs in float64, but for 24 → 3 with 1.02.

        >>> FeatureVectorised.of(32, 4, "float32", Target(64, 32))
        FeatureVectorised(n=32, o=4, lanes=16, product_lanes=16, cache_line=64)
        >>> FeatureVectorised.of(32, 4, "float64", Target(64, 32))  # half a vector
        >>> FeatureVectorised.of(16, 4, "float32", Target(64, 32))  # one vector of features
        >>> FeatureVectorised.of(64, 6, "float32", Target(64, 32))  # 24 sums
        """
        most = target.vector_bytes // SIZES[dtype]
        least = most // (1 + target.in_halves)
        if operation not in ("step", "train") or not 2 <= o <= 3 * most // 8 or n <= least:
            return None
        for lanes in sorted({least, most}):
            groups = -(-n // lanes)
            pays = n % lanes == 0 or o * groups * lanes < power_of_two(o) * n
            if pays and o * groups + _SPARE <= target.registers:
                return cls(n, o, lanes, least, target.cache_line)
        return None

    @property
    def name(self) -> str:
        """A name that no other layout has."""
        return f"{self.n}x{self.o}_features{self.lanes}x{self.product_lanes}"

    @property
    def rows(self) -> int:
        """Rows that go together."""
        return _TOGETHER

    @property
    def groups(self) -> int:
        """Vectors of the sums over all features."""
        return -(-self.n // self.lanes)

    @property
    def product_groups(self) -> int:
        """Vectors of the products over all features."""
        return -(-self.n // self.product_lanes)

    def write(self, to: Writer, operation: str) -> None:
        """Write the sums over all rows."""
        memory, rows = self._memory(to, operation), to.argument(Argument.ROWS)
        # The last row is not read with what lies behind it.
        inside = to.build.sub(rows, INT(1 if self.n % self.lanes else 0))
        with to.loop(0, rows, BLOCK) as start:
            for number in range(self.o * self.groups):
                to.store(to.zero(self.lanes), memory.weight_sums, number * self.lanes)
            for place in (memory.bias_sums, memory.square_sums):
                for row in range(_TOGETHER if place is not None else 0):
                    to.store(to.zero(self.o), place, row * self.o)
            stop = to.minimum(to.build.add(start, INT(BLOCK)), rows)
            middle = to.end_of_groups(start, stop, inside, _TOGETHER)
            with to.loop(start, middle, _TOGETHER) as row:
                self._write_rows(to, memory, row, _TOGETHER)
            with to.loop(middle, stop) as row:
                self._write_rows(to, memory, row, 1)
            self._add_block(to, memory)

    def _memory(self, to: Writer, operation: str) -> _Memory:
        """Take room on the stack, and put Wᵀ there, with zeros behind each row, and b."""
        lanes, numbers = self.product_lanes, _TOGETHER * self.o
        memory = _Memory(
            x=to.argument(Argument.X),
            y=to.argument(Argument.Y),
            weight=to.alloca(lanes, self.o * self.product_groups),
            bias=to.array(numbers, to.item),
            residuals=to.array(numbers, to.item),
            weight_sums=to.alloca(self.lanes, self.o * self.groups),
            bias_sums=to.array(numbers, to.item),
            square_sums=to.array(numbers, to.item) if operation in WITH_LOSS else None,
        )
        weight, bias = to.argument(Argument.WEIGHT), to.argument(Argument.BIAS)
        for output in range(self.o):
            for group in range(self.product_groups):
                first = group * lanes
                given = to.gep(weight, first * self.o + output)
                found = to.gather(given, 0, min(lanes, self.n - first), lanes, self.o)
                to.store(found, memory.weight, (output * self.product_groups + group) * lanes)
        for row in range(_TOGETHER):
            to.store(to.load(bias, 0, self.o), memory.bias, row * self.o)
        return memory

    def _write_rows(self, to: Writer, memory: _Memory, row: ir.Value, count: int) -> None:
        """Write what is done with rows that go together, or with one and nothing behind it."""
        inputs = (memory.x, self.n), (memory.y, self.o)
        lines: Sequence[ir.Value] = ()
        if count > 1:
            half = self.n * to.size >= self.cache_line
            lines = to.lines_ahead(row, count, *inputs, half=half, wide=True)
        x, y = (to.gep(base, to.offset((row, width))) for base, width in inputs)
        # Of so many rows the residuals fill vectors, and are done with before those of the next.
        at_once = next(
            (some for some in range(1, count) if some * self.o % self.product_lanes == 0), count
        )
        for first in range(0, count, at_once):
            if count > 1:
                to.clobber_memory(memory.weight, memory.residuals, memory.bias_sums)
            products = [
                product
                for start in range(first, first + at_once, _AT_ONCE)
                for product in self._products(
                    to, memory, x, range(start, min(start + _AT_ONCE, first + at_once)), count
                )
            ]
            numbers = range(first * self.o, (first + at_once) * self.o)
            self._store_residuals(to, memory, y, numbers, self._add_lanes(to, products))
        to.clobber_memory(memory.weight, memory.residuals, memory.bias_sums)
        for number in to.prefetch_among(lines, range(count)):
            vectors = [
                self._features(to, x, number, group * self.lanes, self.lanes, count)
                for group in range(self.groups)
            ]
            for output in range(self.o):
                residual = to.load_broadcast(memory.residuals, number * self.o + output, self.lanes)
                for group, vector in enumerate(vectors):
                    index = (output * self.groups + group) * self.lanes
                    so_far = to.load(memory.weight_sums, index, self.lanes)
                    total = to.multiply_add(vector, residual, so_far)
                    to.store(total, memory.weight_sums, index)

    def _features(
        self, to: Writer, x: ir.Value, row: int, first: int, lanes: int, count: int
    ) -> ir.Value:
        """Load features of one of so many rows, and behind a single one nothing."""
        place = to.gep(x, row * self.n)
        if count > 1 or first + lanes <= self.n:
            return to.load(place, first, lanes)
        return to.masked_load(to.lane_mask(INT(self.n - first), lanes), place, first)

    def _products(
        self, to: Writer, memory: _Memory, x: ir.Value, rows: range, count: int
    ) -> list[ir.Value]:
        """Multiply rows by those of Wᵀ: the lanes of each vector add up to a number of XW."""
        lanes, groups = self.product_lanes, self.product_groups
        features = [
            [self._features(to, x, row, group * lanes, lanes, count) for group in range(groups)]
            for row in rows
        ]
        totals = [[to.zero(lanes)] * self.o for _ in rows]
        for output in range(self.o):
            for group in range(groups):
                factors = to.load(memory.weight, (output * groups + group) * lanes, lanes)
                for row, total in zip(features, totals, strict=True):
                    if group == 0:
                        total[output] = to.build.fmul(row[group], factors)
                    else:
                        total[output] = to.multiply_add(row[group], factors, total[output])
        return [product for total in totals for product in total]

    def _add_lanes(self, to: Writer, products: Sequence[ir.Value]) -> list[ir.Value]:
        """Add up the lanes of each vector: the sums lie in order, a vector holds many of them.

        Two vectors become one, half by half of what belongs together: within a group of lanes until
        that has one of each of its vectors, then group by group.
        """
        lanes, group = self.product_lanes, GROUP_BYTES // to.size
        left = [*products, *[to.zero(lanes)] * (-len(products) % group)]
        together = group  # lanes that have parts of one sum, and between groups alike
        while together > 1:
            together //= 2
            unit = group // 2 // together
            left = [
                to.build.fadd(*self._halves(to, low, high, group, unit))
                for low, high in zip(left[::2], left[1::2], strict=True)
            ]
        for _ in range((lanes // group).bit_length() - 1):
            left += [to.zero(lanes)] * (len(left) % 2)
            left = [
                to.build.fadd(*to.deinterleave(low, high, lanes, group))
                for low, high in zip(left[::2], left[1::2], strict=True)
            ]
        return left

    def _halves(
        self, to: Writer, low: ir.Value, high: ir.Value, group: int, unit: int
    ) -> list[ir.Value]:
        """Return the lower halves of two vectors' groups, unit by unit in turn, and the upper.

        An instruction for what is next to each other in pairs would take four times as long.
        """
        return [
            to.shuffle_groups(
                low,
                [
                    of + first + lane
                    for first in range(half, half + group // 2, unit)
                    for of in (0, group)
                    for lane in range(unit)
                ],
                high,
                group,
            )
            for half in (0, group // 2)
        ]

    def _store_residuals(
        self,
        to: Writer,
        memory: _Memory,
        y: ir.Value,
        numbers: range,
        products: Sequence[ir.Value],
    ) -> None:
        """Put R, that is XW + b − Y, where it is wanted: some of its numbers, row by row."""
        build, lanes = to.build, self.product_lanes
        for index, product in zip(numbers[::lanes], products, strict=True):
            width = min(lanes, numbers.stop - index)
            value = product if width == lanes else to.shuffle(product, range(width))
            offset = build.fsub(to.load(memory.bias, index, width), to.load(y, index, width))
            value = build.fadd(value, offset)
            to.store(value, memory.residuals, index)
            so_far = to.load(memory.bias_sums, index, width)
            to.store(build.fadd(value, so_far), memory.bias_sums, index)
            if memory.square_sums is not None:
                so_far = to.load(memory.square_sums, index, width)
                to.store(to.multiply_add(value, value, so_far), memory.square_sums, index)

    def _add_block(self, to: Writer, memory: _Memory) -> None:
        """Add the sums over a block to those over all, in float64."""
        sums, lanes = to.argument(Argument.SUMS), self.lanes
        outputs = power_of_two(self.o)
        for group in range(self.groups):
            given = [
                to.load(memory.weight_sums, (output * self.groups + group) * lanes, lanes)
                for output in range(self.o)
            ]
            turned = to.interleave(given + [to.zero(lanes)] * (outputs - self.o))
            for feature in range(min(lanes, self.n - group * lanes)):
                number, first = divmod(feature * outputs, lanes)
                value = to.shuffle(turned[number], range(first, first + self.o))
                to.add_double(value, sums, (group * lanes + feature) * self.o)
        for place, first in (
            (memory.bias_sums, self.weight_sums),
            (memory.square_sums, self.squares.start),
        ):
            if place is not None:
                rows = [to.load(place, row * self.o, self.o) for row in range(_TOGETHER)]
                to.add_double(reduce(to.build.fadd, rows), sums, first)
