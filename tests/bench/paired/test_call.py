"""What a test hands to `paired`: which is refused, which results are equal."""

import math
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from bench.common.errors import UserError
from bench.paired.call import DifferError, Pair, peak_bytes
from bench.paired.equality import difference


def nothing(*_: Any) -> None:
    """Do nothing."""


def fail(*_: Any) -> None:
    raise ValueError("not\nthis")


def generates() -> Iterator[int]:
    yield 1


async def awaits() -> int:
    return 1


async def generates_later() -> AsyncIterator[int]:
    yield 1


class Unprintable:
    def __repr__(self) -> str:  # noqa: D105
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ours": 3, "theirs": nothing}, "ours of paired must be a function, and not what it"),
        ({"ours": None, "theirs": nothing}, "got None (NoneType)"),
        ({"ours": Unprintable(), "theirs": nothing}, "got one (Unprintable)"),
        ({"theirs": "f"}, "theirs of paired must be"),
        ({"theirs": nothing, "inputs": (1, 2)}, "inputs of paired must be"),
        ({"theirs": nothing, "equal": True}, "equal of paired must be"),
        ({}, "got neither: give one of them"),
        ({"theirs": nothing, "against": "main"}, "got both: give one of them"),
        ({"theirs": nothing, "slower_than": 0}, "slower_than of paired must be a number above 0"),
        ({"theirs": nothing, "slower_than": -1.0}, "got -1.0 (float)"),
        ({"theirs": nothing, "slower_than": math.nan}, "got nan"),
        ({"theirs": nothing, "slower_than": math.inf}, "got inf"),
        ({"theirs": nothing, "slower_than": "5%"}, "got '5%' (str)"),
        ({"theirs": nothing, "slower_than": True}, "got True (bool)"),
        ({"theirs": nothing, "slower_than": None}, "got None (NoneType)"),
        ({"theirs": nothing, "larger_than": 0}, "larger_than of paired must be a number above 0"),
        ({"against": ""}, "against of paired must be a name"),
        ({"against": 3}, "got 3 (int)"),
        ({"theirs": nothing, "device": None}, "device of paired must be a name"),
    ],
)
def test_a_mistake_is_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as raised:
        Pair("test#1", **({"ours": nothing} | options))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_any_real_number_is_a_limit() -> None:
    for limit in (2, 0.5, Fraction(21, 20), np.float64(1.05)):
        assert Pair("test#1", nothing, nothing, slower_than=limit)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ours": fail}, "ours must not raise; ValueError: not this (test_call.py:"),
        ({"theirs": fail}, "theirs must not raise; ValueError"),
        ({"inputs": fail}, "inputs must not raise; ValueError"),
        ({"inputs": lambda: (one for one in "ab")}, "a deep copy of inputs() must not raise; Type"),
        ({"equal": fail}, "equal= must say"),
        ({"ours": lambda: 1, "theirs": lambda: 2}, "must be equal; 1 and 2: "),
        ({"ours": lambda: [1] * 10**6, "theirs": lambda: 2}, "and 2: "),
        ({"equal": lambda a, b: False}, "equal= says that they are not"),
        ({"equal": np.testing.assert_equal, "ours": lambda: 1}, "ACTUAL: 1"),
        ({"ours": lambda: "a\nb", "theirs": lambda: "a"}, "'a\\nb' and 'a'"),
        ({"ours": Unprintable, "theirs": Unprintable}, "a Unprintable and a Unprintable"),
        ({"ours": generates}, "ours of paired must do its work when it is called; it returned a g"),
        (
            {"theirs": awaits},
            "theirs of paired must do its work when it is called; it returned a c",
        ),
        ({"ours": generates_later, "equal": lambda a, b: True}, "a async_generator, which has not"),
        ({"ours": lambda: map(str, "ab")}, "a map, which has not begun: use list(...)"),
    ],
)
def test_what_cannot_be_called_or_differs_is_one_line(options: dict[str, Any], said: str) -> None:
    pair = Pair("test#1", **({"ours": nothing, "theirs": nothing} | options))
    with pytest.raises(UserError) as raised:
        pair.check(*pair.calls())
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600
    assert isinstance(raised.value, DifferError) == ("must be equal" in str(raised.value))


def test_what_has_not_begun_is_refused_against_a_revision_too() -> None:
    pair = Pair("test#1", generates, against="main")
    with pytest.raises(UserError, match="it returned a generator"):
        pair.check(*pair.calls())


def test_equal_may_assert_or_say() -> None:
    for equal in (lambda a, b: a == b, np.testing.assert_equal, lambda a, b: np.True_):
        pair = Pair("test#1", lambda: 1, lambda: 1, equal=equal)
        pair.check(*pair.calls())


def test_each_callable_has_the_same_copy_of_the_inputs_in_every_call() -> None:
    seen: list[list[list[int]]] = [[], []]
    given = [3, 1, 2]

    def function(number: int) -> Callable[[list[int]], None]:
        return lambda values: seen[number].append(values)

    for turn in (0, 1):
        for calls in seen:
            calls.clear()
        pair = Pair("test#1", function(0), function(1), inputs=lambda: given)
        ours, theirs = pair.calls(turn)
        for call in (ours, theirs, ours, theirs):
            call()
        assert seen[0][0] is seen[0][1] is not given
        assert seen[1][0] is seen[1][1] is not seen[0][0]
        assert seen[0][0] == seen[1][0] == given


def test_what_caches_by_identity_finds_nothing_of_the_other() -> None:
    cache: dict[int, int] = {}
    misses: list[int] = []

    def cached(values: list[int]) -> int:
        if id(values) not in cache:
            misses.append(1)
            cache[id(values)] = sum(values)
        return cache[id(values)]

    pair = Pair("test#1", cached, cached, inputs=lambda: [1, 2])
    pair.check(*pair.calls())
    assert len(misses) == 2


def test_functions_may_work_in_place() -> None:
    def in_place(values: list[int]) -> list[int]:
        values.sort()
        return values

    given = [3, 1, 2]
    pair = Pair("test#1", in_place, sorted, inputs=lambda: (given,))
    pair.check(*pair.calls())
    assert given == [3, 1, 2]


def test_without_inputs_there_are_no_arguments_and_a_tuple_is_several() -> None:
    pair = Pair("test#1", lambda *given: given, lambda *given: given)
    assert [call() for call in pair.calls()] == [(), ()]
    pair = Pair("test#1", lambda *given: given, against="main", inputs=lambda: (1, 2))
    assert [call() for call in pair.calls()] == [(1, 2)]


class Point(NamedTuple):
    x: float
    values: Any


NAN = float("nan")
FRAME = pd.DataFrame({"a": [1.0, 2.0]})
EQUAL = [
    (1, 1), (1, 1.0), (0.1 + 0.2, 0.3), (NAN, NAN), (math.inf, math.inf), (1j, 1j + 1e-12),
    ("a", "a"), ({1, 2}, {2, 1}), (None, None), (np.float64(0.3), 0.1 + 0.2),
    ([1.0, [NAN]], [1.0 + 1e-12, [NAN]]), ({"a": (1,), "b": 2}, {"b": 2, "a": (1,)}),
    (np.array([1.0, NAN]), np.array([1.0 + 1e-12, NAN])), (np.arange(3), np.arange(3)),
    (np.float32([1.0]), np.float32([1.0 + 1e-6])), (np.array(["a"]), np.array(["a"])),
    (np.array([1j]), np.array([1j])), (np.float16(1.0), np.float16(1.0005)),
    (np.array([1, "a"], dtype=object), np.array([1, "a"], dtype=object)),
    (torch.ones(2), torch.ones(2) + 1e-7), (FRAME, FRAME + 1e-12), (FRAME.a, FRAME.a.copy()),
    (FRAME.index, FRAME.index), (Point(1.0, np.ones(2)), Point(1.0, np.ones(2))),
]  # fmt: skip
UNEQUAL = [
    (1, 2), (1.0, 1.001), (NAN, 1.0), (math.inf, -math.inf), (math.inf, 1e300), ([1], (1,)),
    ([1], [1, 2]), ({"a": 1}, {"b": 1}), ({"a": [1, 2]}, {"a": [1, 3]}), (None, 0),
    (np.ones(2), np.ones(3)), (np.ones(2), np.ones((1, 2))), (np.ones(2), np.float32([1, 1])),
    (np.arange(2), np.arange(2) + 1), (np.ones(2), [1.0, 1.0]),
    (np.float32([1.0]), np.float32([1.1])),
    (torch.ones(2), torch.ones(2) * 1.001), (torch.ones(2), torch.ones(2).double()),
    (torch.ones(2), np.ones(2)), (FRAME, FRAME * 2), (FRAME, FRAME.a),
    (FRAME.a, FRAME.a.astype(int)),
    (Point(1.0, np.ones(2)), Point(1.0, np.zeros(2))), (object(), object()),
]  # fmt: skip


@pytest.mark.parametrize("pair", EQUAL, ids=map(str, range(len(EQUAL))))
def test_equal_results_are_equal(pair: tuple[Any, Any]) -> None:
    assert difference(*pair) is None
    assert difference(*reversed(pair)) is None
    assert difference([pair[0]], [pair[1]]) is None


@pytest.mark.parametrize("pair", UNEQUAL, ids=map(str, range(len(UNEQUAL))))
def test_unequal_results_differ_in_one_line(pair: tuple[Any, Any]) -> None:
    for ours, theirs in (pair, reversed(pair), ([[pair[0]]], [[pair[1]]])):
        try:
            found = difference(ours, theirs)
        except UserError as error:  # what == cannot say of an array and something else
            found = str(error)
        assert found
        assert "\n" not in found


def ragged() -> Any:
    made = np.empty(2, dtype=object)
    made[:] = [np.ones(2), np.ones(3)]
    return made


@pytest.mark.parametrize(
    "make",
    [lambda: np.array(["a", "b"], dtype=np.dtypes.StringDType()), ragged],
    ids=["strings", "ragged"],
)
def test_what_a_library_cannot_compare_is_one_line(make: Callable[[], Any]) -> None:
    with pytest.raises(
        UserError, match=r"for ndarray of \w+.* it raised \w+: use equal="
    ) as raised:
        difference(make(), make())
    assert "\n" not in str(raised.value)


def test_it_is_said_where_results_differ() -> None:
    assert difference({"a": [1, 2]}, {"a": [1, 3]}) == "['a'][1]: 2 and 3"
    assert difference([1], [1, 2]) == "the length: 1 and 2"
    assert difference({"a": 1}, {"b": 1}) == "the keys: ['a'] and ['b']"


def test_peaks_are_of_python_numpy_and_torch() -> None:
    for call in (lambda: bytearray(10**6), lambda: np.ones(125_000), lambda: torch.ones(250_000)):
        assert peak_bytes(call, "cpu") == pytest.approx(10**6, abs=20_000)
    assert peak_bytes(nothing, "cpu") < 20_000
