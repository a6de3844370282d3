"""Write functions in LLVM's IR in terms of vectors, rows and loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import NamedTuple, TypeVar

from llvmlite import ir

# How far ahead narrow rows are asked for. The processor's own prefetcher ends at a page of 4 KiB;
# with inputs from memory a step then takes 0.62 to 0.8 of the time, and 1.00 to 1.03 of it with
# inputs in cache. Of wider rows that are read once it gains nothing, and the requests cost a tenth,
# unless there are outputs for several vectors.
PREFETCH_BYTES = 4_096
PREFETCHED_ROW_BYTES = 128
# Within so many bytes vectors are shuffled by the fastest instructions, of which none needs a
# register for what goes where. Where rows are no longer than that, nothing is saved.
GROUP_BYTES = 16
BLOCK = 512  # rows; the padding of a block is small beside it, the sum of one still exact enough
INT, DOUBLE = ir.IntType(64), ir.DoubleType()
_LANE, _VOID = ir.IntType(32), ir.VoidType()
_POINTER = ir.PointerType()
_TYPES = {"float32": ir.FloatType(), "float64": DOUBLE}
SIZES = {"float32": 4, "float64": 8}
WITH_LOSS = ("train", "loss", "losses")  # operations that sum the squares of R
LOSSES = 16  # of `losses`: the parameters of so many epochs fill vectors of any size
_Item = TypeVar("_Item")


class Argument(IntEnum):
    """Arguments of a call, eight bytes each: pointers, whole numbers, and float64 numbers.

    Those from `BATCH` on are for training: a mini-batch has so many rows, and its loss, a mean over
    `NUMBERS` of Y, is added to what lies at `LOSS`. `RATE` is η, and in training 2η, which is
    divided by `NUMBERS`. The targets are changed: the parameters, or others of their shapes. After
    each of `EPOCHS`, which have a loss each, a copy of them is put to `KEPT`, W and b behind it and
    then those of the next, unless that is 0. `WEIGHT` of `losses` is such copies of `LOSSES`.
    """

    X = 0
    Y = 1
    WEIGHT = 2
    BIAS = 3
    SUMS = 4
    ROWS = 5
    THREADS = 6
    RATE = 7
    BATCH = 8
    NUMBERS = 9
    LOSS = 10
    WEIGHT_TARGET = 11
    BIAS_TARGET = 12
    EPOCHS = 13
    KEPT = 14


_WHOLE = (Argument.ROWS, Argument.THREADS, Argument.BATCH, Argument.EPOCHS)
_REAL = (Argument.RATE, Argument.NUMBERS)


def whole_lines(doubles: int, cache_line: int) -> int:
    """Return so many float64 numbers, or more: what fills cache lines that no other part uses."""
    return -(-doubles * 8 // cache_line) * cache_line // 8


def power_of_two(least: int) -> int:
    """Return the first power of two from a positive number on."""
    return 1 << (least - 1).bit_length()


class ParameterSpan(NamedTuple):
    """Parameters that follow one another, and the sums that are theirs.

    Attributes:
        argument: `WEIGHT` or `BIAS`.
        target: The first parameter.
        sums: The first sum.
        items: How many they are.
    """

    argument: Argument
    target: ir.Value
    sums: ir.Value
    items: int


class Writer:
    """Writes one function, in the terms of vectors of its item type, for cache lines of a size."""

    def __init__(self, module: ir.Module, name: str, dtype: str, cache_line: int) -> None:
        kind = ir.FunctionType(_VOID, [_POINTER])
        self.function = ir.Function(module, kind, name)
        self.build = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.item, self.size, self.cache_line = _TYPES[dtype], SIZES[dtype], cache_line

    def argument(self, which: Argument) -> ir.Value:
        """Load an argument of the call."""
        kind = INT if which in _WHOLE else DOUBLE if which in _REAL else _POINTER
        return self.build.load(self.gep(self.function.args[0], which, INT), typ=kind)

    def own_arguments(self, operation: str) -> ir.Value:
        """Return a copy of an operation's arguments on the stack, to be changed."""
        given, own = self.function.args[0], self.array(len(Argument), INT)
        for which in list(Argument)[: None if operation in WITH_LOSS else Argument.BATCH]:
            value = self.build.load(self.gep(given, which, INT), typ=INT)
            self.build.store(value, self.gep(own, which, INT))
        return own

    def number(self, value: int | ir.Value) -> ir.Value:
        """Return a whole number as a value."""
        return INT(value) if isinstance(value, int) else value

    def gep(self, base: ir.Value, index: int | ir.Value, kind: ir.Type | None = None) -> ir.Value:
        """Return the address of an item."""
        return self.build.gep(base, [self.number(index)], source_etype=kind or self.item)

    def offset(self, *terms: tuple[int | ir.Value, int]) -> ir.Value:
        """Return Σ value·factor."""
        total: ir.Value = INT(0)
        for value, factor in terms:
            total = self.build.add(total, self.build.mul(self.number(value), INT(factor)))
        return total

    def vector(self, lanes: int) -> ir.VectorType:
        """Return the type of a vector of so many items."""
        return ir.VectorType(self.item, lanes)

    def zero(self, lanes: int) -> ir.Constant:
        """Return a vector of zeros."""
        return ir.Constant(self.vector(lanes), [0.0] * lanes)

    def alloca(self, lanes: int, count: int) -> ir.Value:
        """Take room for so many vectors on the stack."""
        return self.array(count, self.vector(lanes))

    def array(self, count: int, kind: ir.Type) -> ir.Value:
        """Take room for so many values of a kind on the stack, from a cache line's start on.

        It is taken once a call: in a loop each round would take more.
        """
        with self.build.goto_entry_block():
            place = self.build.alloca(ir.ArrayType(kind, count))
        place.align, place.type = self.cache_line, _POINTER
        return place

    def load(
        self, base: ir.Value, index: int | ir.Value, lanes: int, kind: ir.Type | None = None
    ) -> ir.Value:
        """Load so many items, or numbers of another kind, that follow one another."""
        kind = kind or self.item
        place, size = self.gep(base, index, kind), 8 if kind == DOUBLE else self.size
        return self.build.load(place, typ=ir.VectorType(kind, lanes), align=size)

    def load_broadcast(self, base: ir.Value, index: int | ir.Value, lanes: int) -> ir.Value:
        """Load an item into each lane of a vector."""
        return self.broadcast(self.build.load(self.gep(base, index), typ=self.item), lanes)

    def gather(
        self, base: ir.Value, index: int | ir.Value, count: int, lanes: int, step: int = 1
    ) -> ir.Value:
        """Load a few items, and nothing between or behind, into a vector padded with zeros."""
        found: ir.Value = self.zero(lanes)
        for lane in range(count):
            place = self.gep(self.gep(base, index), lane * step)
            item = self.build.load(place, typ=self.item)
            found = self.build.insert_element(found, item, _LANE(lane))
        return found

    def store(self, value: ir.Value, base: ir.Value, index: int | ir.Value) -> None:
        """Store an item or a vector of them."""
        self.build.store(value, self.gep(base, index), align=self.size)

    def shuffle(
        self, value: ir.Value, lanes: Sequence[int], other: ir.Value | None = None
    ) -> ir.Value:
        """Return the vector of the lanes named; those of `other` follow on those of `value`."""
        mask = ir.Constant(ir.VectorType(_LANE, len(lanes)), list(lanes))
        other = ir.Constant(value.type, ir.Undefined) if other is None else other
        return self.build.shuffle_vector(value, other, mask)

    def shuffle_groups(
        self, low: ir.Value, wanted: Sequence[int], high: ir.Value, group: int
    ) -> ir.Value:
        """Shuffle two vectors within groups of lanes, in each alike; `high` follows on `low`."""
        every = low.type.count
        lanes = [*wanted, *[0] * group][:group]  # what is behind the wanted ones may be anything
        return self.shuffle(
            low,
            [
                start + lane + (lane >= group) * (every - group)
                for start in range(0, every, group)
                for lane in lanes
            ],
            high,
        )

    def deinterleave(
        self, low: ir.Value, high: ir.Value, group: int, unit: int = 1
    ) -> list[ir.Value]:
        """Return every other unit of two vectors' groups, from the first and the second on."""
        return [
            self.shuffle_groups(
                low,
                [first + lane for first in range(odd, 2 * group, 2 * unit) for lane in range(unit)],
                high,
                group,
            )
            for odd in (0, unit)
        ]

    def join(self, values: Sequence[ir.Value]) -> ir.Value:
        """Return 1, 2, 4 … vectors as one, the lanes of each behind those of the one before."""
        if len(values) == 1:
            return values[0]
        low, high = (
            self.join(half) for half in (values[: len(values) // 2], values[len(values) // 2 :])
        )
        return self.shuffle(low, range(2 * low.type.count), high)

    def interleave(self, values: Sequence[ir.Value]) -> list[ir.Value]:
        """Return the first lanes of 1, 2, 4 … vectors, then their second lanes, and so on."""
        if len(values) == 1:
            return [*values]
        lanes = values[0].type.count
        halves = [range(first, first + lanes // 2) for first in (0, lanes // 2)]
        found = []
        for even, odd in zip(*(self.interleave(values[one::2]) for one in (0, 1)), strict=True):
            for half in halves:
                found.append(
                    self.shuffle(even, [lane + other for lane in half for other in (0, lanes)], odd)
                )
        return found

    def broadcast(self, item: ir.Value, lanes: int) -> ir.Value:
        """Return a vector with a number in each lane."""
        empty = ir.Constant(ir.VectorType(item.type, lanes), ir.Undefined)
        return self.shuffle(self.build.insert_element(empty, item, _LANE(0)), [0] * lanes)

    def lane_mask(self, count: ir.Value, lanes: int, first: int = 0) -> ir.Value:
        """Return which lanes, numbered from `first` on, are below `count`, of an item's bits."""
        kind = ir.IntType(8 * self.size)  # so that the numbers of the lanes fill one vector
        numbers = ir.Constant(ir.VectorType(kind, lanes), list(range(first, first + lanes)))
        wanted = self.broadcast(self.build.trunc(count, kind), lanes)
        return self.build.icmp_signed("<", numbers, wanted)

    def masked_load(self, wanted: ir.Value, base: ir.Value, index: int | ir.Value) -> ir.Value:
        """Load the lanes wanted, and touch no other; zeros in the others."""
        lanes = wanted.type.count
        name = f"llvm.masked.load.v{lanes}f{8 * self.size}.p0"
        vector = self.vector(lanes)
        load = self._intrinsic(name, vector, [_POINTER, _LANE, wanted.type, vector])
        place = self.gep(base, index)
        return self.build.call(load, [place, _LANE(self.size), wanted, self.zero(lanes)])

    def _intrinsic(self, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
        """Return a function of LLVM's own, declared in the module at its first use."""
        module = self.function.module
        kind = ir.FunctionType(result, arguments)
        return module.globals.get(name) or ir.Function(module, kind, name)

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """Return a·b + c: rounded once where the processor has an instruction for it."""
        name = f"llvm.fmuladd.v{a.type.count}f{64 if a.type.element == DOUBLE else 32}"
        return self.build.call(self._intrinsic(name, a.type, [a.type] * 3), [a, b, c])

    def lines_ahead(
        self,
        row: ir.Value,
        count: int,
        *inputs: tuple[ir.Value, int],
        half: bool = False,
        wide: bool = False,
    ) -> list[ir.Value]:
        """Return the cache lines of rows `PREFETCH_BYTES` ahead; those may not exist.

        Args:
            row: The first row that is worked on now.
            count: How many are worked on, and wanted ahead.
            *inputs: Address of the first row of each input, and the items of a row.
            half: Whether half as far ahead.
            wide: Whether rows of more than `PREFETCHED_ROW_BYTES` are wanted too.
        """
        found = []
        for base, width in inputs:
            if width * self.size > PREFETCHED_ROW_BYTES and not wide:
                continue
            ahead = max(count, PREFETCH_BYTES // (1 + half) // (width * self.size))
            first = self.gep(base, self.offset((row, width), (ahead, width)))
            items = self.cache_line // self.size
            found += [self.gep(first, place) for place in range(0, count * width, items)]
        return found

    def prefetch(self, *lines: ir.Value, cache: int = 1) -> None:
        """Ask for cache lines, which need not exist, to be in the first cache or the second."""
        prefetch = self._intrinsic("llvm.prefetch.p0", _VOID, [_POINTER, _LANE, _LANE, _LANE])
        to_read, data = _LANE(0), _LANE(1)
        for line in lines:
            self.build.call(prefetch, [line, to_read, _LANE(4 - cache), data])

    def prefetch_among(self, lines: Sequence[ir.Value], work: Sequence[_Item]) -> Iterator[_Item]:
        """Yield pieces of work, and before each ask for its share of cache lines.

        Of those asked for at once a processor keeps track of some twenty, and waits for the others.
        """
        for number, piece in enumerate(work):
            first, stop = (len(lines) * place // len(work) for place in (number, number + 1))
            self.prefetch(*lines[first:stop])
            yield piece

    def clobber_memory(self, *places: ir.Value) -> None:
        """Let nothing loaded before be kept in registers: reading it again is cheaper.

        Args:
            *places: Where on the stack that is so too.
        """
        kind = ir.FunctionType(_VOID, [_POINTER] * len(places))
        changed = ",".join(["r"] * len(places) + ["~{memory}"])
        self.build.asm(kind, "", changed, places, side_effect=True)

    def widen(self, value: ir.Value) -> ir.Value:
        """Return a number or a vector in float64."""
        if self.item == DOUBLE:
            return value
        lanes = getattr(value.type, "count", None)
        return self.build.fpext(value, ir.VectorType(DOUBLE, lanes) if lanes else DOUBLE)

    def narrow(self, value: ir.Value) -> ir.Value:
        """Return a vector of float64 in the item type."""
        if self.item == DOUBLE:
            return value
        return self.build.fptrunc(value, self.vector(value.type.count))

    def add_double(self, value: ir.Value, base: ir.Value, index: int | ir.Value) -> None:
        """Add a number or a vector to what is summed up in float64 at an index of `base`."""
        value, place = self.widen(value), self.gep(base, index, DOUBLE)
        so_far = self.build.load(place, typ=value.type, align=SIZES["float64"])
        self.build.store(self.build.fadd(so_far, value), place, align=SIZES["float64"])

    @contextmanager
    def loop(
        self, start: int | ir.Value, stop: int | ir.Value, step: int | ir.Value = 1
    ) -> Iterator[ir.Value]:
        """Write `for index in range(start, stop, step)` around what follows."""
        build, before = self.build, self.build.block
        head, body, end = (self.function.append_basic_block(n) for n in ("head", "body", "end"))
        build.branch(head)
        build.position_at_end(head)
        index = build.phi(INT)
        index.add_incoming(self.number(start), before)
        build.cbranch(build.icmp_signed("<", index, self.number(stop)), body, end)
        build.position_at_end(body)
        yield index
        index.add_incoming(build.add(index, self.number(step)), build.block)
        build.branch(head)
        build.position_at_end(end)

    def each(self, count: int, *, written_out: bool) -> Iterator[int | ir.Value]:
        """Yield each index below a number: written out, or once in a loop over them."""
        if written_out:
            yield from range(count)
        else:
            with self.loop(0, count) as index:
                yield index

    def end_of_groups(
        self, start: ir.Value, stop: ir.Value, inside: ir.Value, count: int
    ) -> ir.Value:
        """Return where the last of so many rows together ends, of those that are `inside` too."""
        whole = self.build.sub(self.minimum(stop, inside), start)
        some = self.build.icmp_signed(">", whole, INT(0))
        whole = self.build.select(some, whole, INT(0))
        return self.build.add(start, self.build.sub(whole, self.build.urem(whole, INT(count))))

    def minimum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return the lesser of two numbers."""
        return self.build.select(self.build.icmp_signed("<", a, b), a, b)
