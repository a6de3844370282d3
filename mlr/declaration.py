"""An operation is what is computed, whichever kernel does it; each is declared once, in a table."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

from torch import Tensor

# a cost in the sizes, in the order of the axes, and the item size in bytes: operations, or bytes
Formula = Callable[..., int]
START = "start"  # the input that is where a call's state starts, and not its data


def unknown(kind: str, name: str, known: Mapping[str, object]) -> str:
    """Return the line that answers an unknown name: the nearest one first, then all."""
    near = get_close_matches(name, known, n=1)
    guess = f"; did you mean {near[0]}?" if near else ""
    return f"unknown {kind} {name!r}{guess}; known: {', '.join(known)}"


def undeclared(*sizes_and_itemsize: int) -> Any:
    """Stand for the formula of a cost that is not declared."""


class Probe(NamedTuple):
    """Inputs on which an error shows that hides among the rounding of ordinary ones.

    Attributes:
        name: What they are, as a message says it: `inputs of non-zero mean`.
        draw: Returns the value of each input by its name: `(problem) -> mapping`.
        same_sign: How many products of one sign a result sums at most, from the sizes. Their
            roundings are relative to sums that grow with every one, so √k are added to an
            operation's own.
        full_size: Whether a case is probed at its own size too, and not only at a small one: not
            where a result sums so many products of one sign that their rounding hides the error.
    """

    name: str
    draw: Callable[..., Mapping[str, Any]]
    same_sign: Callable[..., int] = lambda *sizes: 0
    full_size: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is computed, whichever kernel does it. `mlr.operation` makes one of a short class.

    A *call* is what is timed: one gradient, one step, one whole training. A function of the sizes
    gets them in the order of the axes.

    Attributes:
        name: Its id everywhere.
        title: What a text calls one call of it: `training step`.
        axes: The names of its sizes, in their order, each with the sizes that are measured where
            neither a grid nor the command line says. The least ones are sizes at which every
            kernel is checked besides.
        inputs: What a call reads and does not write: names of attributes of the problem. One
            named `start` holds where the state starts, a named tuple.
        draw: Draws inputs of some names, or more of them, for a problem:
            `(problem, names) -> mapping`, each value a tensor or a tuple of tensors.
        results: The shape of each tensor that a call computes, by name, from the sizes; None where
            it is not known before one is computed.
        oracle: Returns the results after so many calls from the start, computed in float64 by the
            most trusted means: `(problem, calls) -> tensors`.
        error_scale: Returns, for each element of the results, the sum of the absolute products that
            it was summed from: `(problem, calls, expected) -> tensors`. None where no such bound is
            known: a result is then held against the baseline's own error, see `oracle`.
        roundings: How many roundings of one sum lie one after another in a result of so many calls;
            independent ones count by the root of their number.
        terms: How many products a result sums, from the sizes.
        least_flops: Floating-point operations that no formulation does without from inputs that are
            given anew in every call.
        least_bytes: Bytes that no formulation does without: inputs read and results written, once.
        input_bytes: Bytes of the input tensors; None for what is not known.
        bind: Does every one-off thing and returns the bare callable that is timed, from a kernel's
            function and a problem. By default the function does it, given the problem.
        state: The names of the problem's tensors that a call changes, and which are its results;
            without any, they are what the call returns.
        stateful: Whether a call goes on from where the one before ended, as a step does.
        iterative: Whether one call is itself a whole training of many steps.
        lr: The learning rate of a problem, from the sizes; None where there is none.
        preferred: The kernels that `auto` calls for a case, the first that supports it, where
            nothing was measured; none where there is no `auto`.
        probes: Further inputs to check a kernel on, one call each from the start.
        probe_lr: The learning rate that a kernel is bound with to be checked at a small size, from
            the sizes: one of which a single step stands far above the last digit of the
            parameters. None for that of the problem.
    """

    name: str
    title: str
    axes: Mapping[str, tuple[int, ...]]
    inputs: tuple[str, ...]
    draw: Callable[..., Mapping[str, Any]]
    results: Callable[..., Mapping[str, tuple[int, ...]] | None]
    oracle: Callable[..., tuple[Tensor, ...]]
    error_scale: Callable[..., tuple[Tensor, ...]] | None = None
    roundings: Callable[[int], float | int] = lambda calls: 2 * calls
    terms: Callable[..., int] = lambda *sizes: sum(sizes)
    least_flops: Formula = undeclared
    least_bytes: Formula = undeclared
    input_bytes: Callable[..., int | None] | None = None
    bind: Callable[..., Callable[[], Any]] = lambda function, problem: function(problem)
    state: tuple[str, ...] = ()
    stateful: bool = False
    iterative: bool = False
    lr: Callable[..., float] | None = None
    preferred: Callable[..., tuple[str, ...]] | None = None
    probes: tuple[Probe, ...] = ()
    probe_lr: Callable[..., float] | None = None

    @property
    def built_in(self) -> bool:
        """Whether it comes with mlr, and not from a user's file or package."""
        return getattr(self.oracle, "__module__", "") == f"{__package__}.operations"

    @property
    def trains(self) -> bool:
        """Whether the results are tensors of the problem, which a call changes."""
        return bool(self.state)

    @property
    def tolerance_of(self) -> str:
        """What an error is held against: the `bound` on rounding, or the `baseline`'s own error."""
        return "baseline" if self.error_scale is None else "bound"

    @property
    def least_sizes(self) -> tuple[int, ...]:
        """The least of the declared sizes of each axis."""
        return tuple(min(sizes) for sizes in self.axes.values())

    def result_numbers(self, *sizes: int) -> int | None:
        """Return how many numbers the results are; None where that is not known."""
        shapes = self.results(*sizes)
        return None if shapes is None else sum(map(math.prod, shapes.values()))


OPERATIONS: dict[str, Operation] = {}


def register_operation(operation: Operation) -> Operation:
    """Add an operation to `OPERATIONS` and return it.

    Raises:
        ValueError: For a name that is taken already, or that is no identifier.
    """
    if operation.name in OPERATIONS:
        raise ValueError(f"operation {operation.name!r} is registered already; choose another name")
    if not (operation.name.isidentifier() and operation.name.isascii()):
        raise ValueError(f"an operation is named by letters, digits and _; got {operation.name!r}")
    OPERATIONS[operation.name] = operation
    return operation


def draw_each(**inputs: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Return a `draw` of an operation whose inputs are drawn by a function of the problem each."""
    return lambda problem, names: {name: inputs[name](problem) for name in names}


def cost(what: str, formula: Formula, sizes: Sequence[int], itemsize: int) -> int | None:
    """Return a cost at some sizes; None where none is declared.

    Raises:
        ValueError: If the formula raises, or returns no whole number or one below 0.
    """
    if formula is undeclared:
        return None
    try:
        value: Any = formula(*sizes, itemsize)
        found, came = -1, f"gives {value!r}"
    except Exception as error:
        value, found, came = None, -1, f"raises {type(error).__name__}: {error}"
    with suppress(TypeError):  # of what is no whole number
        found = operator.index(value)
    if found < 0:
        raise ValueError(
            f"{what} must be a whole number of at least 0; its formula {came} for the sizes "
            f"{'x'.join(map(str, sizes))}; mend it"
        )
    return found
