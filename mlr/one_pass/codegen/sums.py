"""Which sums a sweep adds up in float64, and which parameters they are for."""

from __future__ import annotations

from collections.abc import Iterator

from .writer import INT, WITH_LOSS, Argument, ParameterSpan, Writer, whole_lines


class Sums:
    """G feature by feature, g behind it, and behind that the squares of R, one for each output.

    That is so in every layout that does not say otherwise: some pad features or outputs.
    """

    n: int
    o: int
    cache_line: int

    @property
    def stride(self) -> int:
        """How many numbers lie from one feature's sums to the next's."""
        return self.o

    @property
    def weight_sums(self) -> int:
        """How many numbers G is, padded."""
        return self.n * self.stride

    @property
    def sums(self) -> int:
        """How many float64 numbers G is, and g behind it."""
        return self.weight_sums + self.stride

    @property
    def squares(self) -> range:
        """Which sums are those of the squares of R."""
        return range(self.sums, self.sums + self.o)

    def summed(self, operation: str) -> int:
        """Return how many float64 numbers a sweep adds up."""
        return self.sums + self.stride * (operation in WITH_LOSS)

    def doubles(self, operation: str) -> int:
        """Return how many float64 numbers a part has room for."""
        return whole_lines(self.summed(operation), self.cache_line)

    def spans(self, to: Writer) -> Iterator[ParameterSpan]:
        """Yield which sums are which parameters', which lie as these do."""
        yield ParameterSpan(Argument.WEIGHT, INT(0), INT(0), self.weight_sums)
        yield ParameterSpan(Argument.BIAS, INT(0), INT(self.weight_sums), self.o)
