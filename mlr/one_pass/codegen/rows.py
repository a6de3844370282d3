"""The sweep with one feature of many rows in a vector, and all sums in registers.

So no lane is ever empty, but what lies row after row has to be taken apart first: n vectors hold as
many rows as a vector has lanes, and one to three shuffles make each of the n vectors that hold one
feature. The sums of each lane are added up at the end of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

from llvmlite import ir

from .sums import Sums
from .target import AVX512, Target
from .writer import GROUP_BYTES, INT, SIZES, WITH_LOSS, Argument, Writer

_ROWS_OF_A_LANE = 128  # of a block: what a lane adds up in the working precision
# Rows from which on this pays: of a step or a mini-batch with vectors of 64 bytes, and otherwise of
# each lane. With fewer, adding up the lanes costs more than it saves. Sixteen epochs of three
# mini-batches of 33 rows and one row, 6 → 3, take 0.73 of the time in float32, 0.85 in float64.
_FEWEST, _FEWEST_OF_A_LANE = 16, 8
_FEWEST_IN_HALVES = 128  # where vectors are worked on in halves, and outputs fill over a quarter
# Features from which on every other one is summed up apart, so that fewer wait for one another: a
# step of 10,000 × 6 → 3 in float32 takes 0.90 of the time, of 3 → 3 it would take 1.07.
_APART = 5


@dataclass(frozen=True)
class RowVectorised(Sums):
    """How rows lie in vectors.

    Attributes:
        n: Features.
        o: Outputs.
        lanes: Rows in a vector.
        cache_line: Bytes of a cache line of the target.
    """

    n: int
    o: int
    lanes: int
    cache_line: int = 64

    @classmethod
    def of(
        cls, m: int, n: int, o: int, dtype: str, target: Target, operation: str = "step"
    ) -> RowVectorised | None:
        """Lay out m rows of n features and o outputs, or return None where that does not pay.

        It pays where the outputs of a row would fill a quarter of a vector at most, where the sums,
        the features and the residuals fit in registers, and where each lane has rows enough. Of 64
        bytes they may fill a half: with 6 → 3 in float64 a step of 1,000 rows takes 0.74 of the
        time (0.88 where each is worked on in halves, and more than 1 of fewer than 128 rows, or of
        four outputs), and a gradient of few rows is no faster.

        >>> RowVectorised.of(1_000, 6, 3, "float32", AVX512)
        RowVectorised(n=6, o=3, lanes=16, cache_line=64)
        >>> RowVectorised.of(1_000, 6, 3, "float64", AVX512)
        RowVectorised(n=6, o=3, lanes=8, cache_line=64)
        >>> RowVectorised.of(100, 6, 3, "float64", AVX512, "gradient")
        >>> RowVectorised.of(1_000, 6, 3, "float64", Target(32, 16))  # three fill a vector
        >>> RowVectorised.of(1_000, 16, 3, "float32", AVX512)  # 48 sums
        >>> RowVectorised.of(100, 6, 3, "float32", AVX512, "loss")  # six rows a lane
        """
        lanes = target.vector_bytes // SIZES[dtype]
        held, share = n * o + n + 2 * o + 2, 4
        fewest = _FEWEST_OF_A_LANE * lanes
        is_widest = target.vector_bytes == AVX512.vector_bytes
        if is_widest and (operation != "gradient" or m >= 8 * fewest):
            share = 2
        if is_widest and operation in ("step", "train"):
            fewest = _FEWEST
        if operation == "loss" and is_widest:  # which has one sum
            held = n + o + 3
        if target.in_halves and 4 * o > lanes and (m < _FEWEST_IN_HALVES or 2 * o == lanes):
            return None
        if share * o > lanes or held > target.registers or m < fewest:
            return None
        return cls(n, o, lanes, target.cache_line)

    @property
    def name(self) -> str:
        """A name that no other layout has."""
        return f"{self.n}x{self.o}_rows{self.lanes}"

    @property
    def squares(self) -> range:
        """Which sum is that of the squares of R, behind G and g."""
        return range(self.sums, self.sums + 1)

    def summed(self, operation: str) -> int:
        """Return how many float64 numbers a sweep adds up: all sums, and what fills a vector."""
        return -(-(self.sums + (operation in WITH_LOSS)) // self.lanes) * self.lanes

    def write(self, to: Writer, operation: str) -> None:
        """Write the sums over all rows."""
        lanes, build = self.lanes, to.build
        weight = bias = None
        if operation != "gradient":
            weight, bias = to.argument(Argument.WEIGHT), to.argument(Argument.BIAS)
        x, y, rows = to.argument(Argument.X), to.argument(Argument.Y), to.argument(Argument.ROWS)
        gradient = range(self.sums if operation != "loss" else 0)
        wanted = [*gradient, *(self.squares if operation in WITH_LOSS else ())]
        totals = {number: to.alloca(lanes, 1) for number in wanted}

        def add(row: ir.Value, there: ir.Value | None) -> None:
            features = self._columns(to, x, row, self.n, there)
            residuals = self._columns(to, y, row, self.o, there)
            if weight is not None and bias is not None:
                residuals = self._residuals(to, features, residuals, weight, bias)
                if there is not None:
                    among = to.lane_mask(there, lanes)
                    residuals = [build.select(among, r, to.zero(lanes)) for r in residuals]
            one = ir.Constant(to.vector(lanes), [1.0] * lanes)
            pairs = [*product([*features, one], residuals)]
            factors = [(number, *pairs[number]) for number in gradient]
            if operation in WITH_LOSS:
                factors += [(self.squares.start, r, r) for r in residuals]
            for number, a, b in factors:
                so_far = to.load(totals[number], 0, lanes)
                to.store(to.multiply_add(a, b, so_far), totals[number], 0)

        with to.loop(0, rows, lanes * _ROWS_OF_A_LANE) as start:
            for place in totals.values():
                to.store(to.zero(lanes), place, 0)
            stop = to.minimum(build.add(start, INT(lanes * _ROWS_OF_A_LANE)), rows)
            count = build.sub(stop, start)
            middle = build.sub(stop, build.urem(count, INT(lanes)))
            with to.loop(start, middle, lanes) as row:
                # More lines are on their way to the second cache at once than to the first: from
                # memory a step takes 0.84 to 0.98 of the time (12 → 2 in float32 1.09).
                to.prefetch(*to.lines_ahead(row, lanes, (x, self.n), (y, self.o)), cache=2)
                add(row, None)
            with to.loop(middle, stop, lanes) as row:  # the last rows, fewer than a vector holds
                add(row, build.sub(stop, row))
            self._add_block(
                to,
                [
                    to.load(totals[number], 0, lanes) if number in totals else to.zero(lanes)
                    for number in range(self.summed(operation))
                ],
            )

    def _columns(
        self, to: Writer, base: ir.Value, row: ir.Value, width: int, there: ir.Value | None
    ) -> list[ir.Value]:
        """Load as many rows of so many numbers as a vector has lanes, or only those that exist.

        A group of lanes takes as many rows, so that no number has to leave its group.
        """
        lanes, first = self.lanes, to.gep(base, to.offset((row, width)))
        if there is not None:
            first = self._copy_rows(to, first, width, there)
        group = GROUP_BYTES // to.size if width * to.size > GROUP_BYTES else lanes
        vectors = [
            to.join(
                [to.load(first, start + number, group)
                 for start in range(0, lanes * width, group * width)]
            )
            for number in range(0, group * width, group)
        ]  # fmt: skip
        every = range(group * width)
        if width % 2:
            columns = (every[column::width] for column in range(width))
            return [self._pick(to, vectors, places, group)[0] for places in columns]
        found = []
        for column in range(0, width, 2):  # two are taken apart last: what comes before serves both
            pairs = [place for place in every if place % width // 2 * 2 == column]
            (low, _), (high, _) = (
                self._pick(to, vectors, places, group) for places in (pairs[:group], pairs[group:])
            )
            found += to.deinterleave(low, high, group)
        return found

    def _copy_rows(self, to: Writer, first: ir.Value, width: int, there: ir.Value) -> ir.Value:
        """Copy so many rows, fewer than a vector has lanes, and zeros behind them to the stack."""
        lanes, rows = self.lanes, to.alloca(self.lanes, width)
        for place in range(0, lanes * width, lanes):
            wanted = to.lane_mask(to.offset((there, width)), lanes, place)
            to.store(to.masked_load(wanted, first, place), rows, place)
        return rows

    def _pick(
        self, to: Writer, given: Sequence[ir.Value], places: Sequence[int], group: int
    ) -> tuple[ir.Value, list[int]]:
        """Return a vector that has the numbers at some places of each group's rows, and where.

        Places are counted over the group's lanes of all vectors; one shuffle makes one of two.
        """
        used = sorted({place // group for place in places})
        if len(used) == 1:
            return given[used[0]], [place % group for place in places]
        middle = used[len(used) // 2] * group
        (low, before), (high, after) = (
            self._pick(to, given, [place for place in places if (place >= middle) == upper], group)
            for upper in (False, True)
        )
        wanted = [*before, *(group + lane for lane in after)]
        return to.shuffle_groups(low, wanted, high, group), [*range(len(places))]

    def _residuals(
        self,
        to: Writer,
        features: Sequence[ir.Value],
        targets: Sequence[ir.Value],
        weight: ir.Value,
        bias: ir.Value,
    ) -> list[ir.Value]:
        """Write r = xW + b − y.

        An instruction of AVX-512 multiplies by a number that it loads into all lanes: W is read
        again each time, and no register holds it.
        """
        lanes = self.lanes
        if lanes * to.size == AVX512.vector_bytes:
            to.clobber_memory()
        sums = [
            [
                to.build.fsub(to.load_broadcast(bias, output, lanes), target)
                for output, target in enumerate(targets)
            ]
        ]
        for number, feature in enumerate(features):
            factors = [
                to.load_broadcast(weight, number * self.o + output, lanes)
                for output in range(self.o)
            ]
            if self.n >= _APART and number < 2:
                sums.append([to.build.fmul(feature, factor) for factor in factors])
                continue
            totals = sums[1 + number % 2 if self.n >= _APART else 0]
            for output, factor in enumerate(factors):
                totals[output] = to.multiply_add(feature, factor, totals[output])
        return [reduce(to.build.fadd, parts) for parts in zip(*sums, strict=True)]

    def _add_block(self, to: Writer, totals: Sequence[ir.Value]) -> None:
        """Add the lanes of each sum up, and the sums to those over all blocks in float64.

        Two vectors become one, that of the sums of neighbours in both, until as many are one as it
        has lanes: then each lane holds the sum of one of them.
        """
        lanes, build, sums = self.lanes, to.build, to.argument(Argument.SUMS)
        for first in range(0, len(totals), lanes):
            left = [*totals[first : first + lanes]]
            while len(left) > 1:
                pairs = zip(left[::2], left[1::2], strict=True)
                left = [build.fadd(*to.deinterleave(*pair, lanes)) for pair in pairs]
            to.add_double(left[0], sums, first)
