"""Declare an operation of one's own by a short class: its inputs, its oracle, and little else."""

from __future__ import annotations

import inspect
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from .arrays import drawing_arrays, of_arrays
from .case import DTYPES, Case, Problem
from .declaration import OPERATIONS, START, Formula, Operation, register_operation, undeclared
from .oracle import numbered

C = TypeVar("C", bound=type)
_OF_PROBLEMS = {
    "case",
    "seed",
    "lr",
    "reference",
    *vars(Problem),
}  # names that an input cannot have


class Traced(NamedTuple):
    """What inputs and results are at some sizes, found without any memory being touched."""

    float_numbers: int  # of the inputs, in the case's dtype
    other_bytes: int  # of the inputs that are no floating-point numbers
    results: dict[str, tuple[int, ...]]  # the shape of each by its name


def operation(
    *,
    axes: Mapping[str, Sequence[int] | int] | Sequence[tuple[str, Any]],
    state: Sequence[str] = (),
    title: str = "",
    roundings: int = 2,
    least_flops: Formula = undeclared,
    least_bytes: Formula = undeclared,
    numpy: bool = False,
) -> Callable[[C], C]:
    """Register the operation that the class below declares, and return the class unchanged.

    The class has two functions, without `self`:

        inputs(case, generator)   a dictionary of tensors by name, drawn on the CPU: numbers in
                                  float64, which are then converted to the case's dtype and device;
                                  integers and booleans stay as they are. `case.batch` is a size
        oracle(*inputs)           a tensor, or a tuple of them, computed in float64 by the most
                                  trusted means; it gets the inputs in their order, as float64

    and it may have a third one, `error_scale(*inputs)`: for each element of each result the sum of
    the absolute products that it was summed from. An error is then held against a bound on rounding
    (see `mlr.oracle`), and otherwise against four times the baseline's own error on the same
    inputs. A kernel is a function of the tensors, in the same order, that returns what the oracle
    returns; one of them is the `baseline`.

    With `state`, a call changes those inputs in place and returns nothing; the oracle then returns
    the state after one call, in the order of `state`, and is called as often as the kernel was.

    Args:
        axes: The names of the sizes, in their order, each with the sizes to measure. Each name is
            an option of the suite: `head_size` is `--head-size`.
        state: The names of the inputs that a call changes in place.
        title: What a text calls one call; the name by default.
        roundings: How many roundings of one sum lie one after another in a result, of one call; of
            use with `error_scale` alone.
        least_flops: Floating-point operations that no kernel does without, a function of the sizes
            and the bytes of a number.
        least_bytes: Bytes that no kernel does without, likewise.
        numpy: Whether the functions of the class are of NumPy arrays: `inputs` then draws arrays by
            a `numpy.random.Generator`, and no shape is known before the oracle has computed.

    Raises:
        ValueError: For a class that declares no operation; one line says which part is wrong.
    """

    def register(declared: C) -> C:
        name = declared.__name__
        try:
            parts = {part: _part(declared, part) for part in ("inputs", "oracle", "error_scale")}
            for part in ("inputs", "oracle"):
                if parts[part] is None:
                    raise ValueError(f"it must have a function {part}; got none; add it")
            if type(roundings) is not int or roundings < 1:
                raise ValueError(f"roundings must be a whole number above 0; got {roundings!r}")
            if numpy:
                wrap = {"inputs": drawing_arrays}
                parts = {
                    part: one and wrap.get(part, of_arrays)(one) for part, one in parts.items()
                }
            own = OwnOperation(name, tuple(state), traced=not numpy, **parts)
            _register(own, Operation(
                name=name, title=title or name.replace("_", " "), axes=_checked_axes(axes),
                inputs=(), draw=own.draw, results=own.result_shapes, oracle=own.oracle,
                error_scale=own.error_scale if parts["error_scale"] else None,
                roundings=lambda calls: roundings * calls, least_flops=least_flops,
                least_bytes=least_bytes, input_bytes=own.input_bytes, bind=own.bind,
                state=own.state, stateful=bool(state),
            ))  # fmt: skip
        except ValueError as error:
            raise ValueError(f"operation {name}: {error}") from error
        return declared

    return register


def _part(declared: type, name: str) -> Any:
    found = vars(declared).get(name)
    found = found.__func__ if isinstance(found, staticmethod) else found
    if found is not None and not inspect.isfunction(found):
        raise ValueError(f"{name} must be a function; got {type(found).__name__}; define one")
    return found


def _checked_axes(axes: Any) -> dict[str, tuple[int, ...]]:
    """Return the axes with tuples of sizes; they may come as pairs, as of a dictionary."""
    found: dict[str, tuple[int, ...]] = {}
    for name, sizes in axes.items() if isinstance(axes, Mapping) else axes:
        if not (isinstance(name, str) and name.isidentifier() and name.isascii()):
            raise ValueError(f"an axis is named by letters, digits and _; got {name!r}; rename it")
        if name in found:
            raise ValueError(f"an axis is named once; got {name!r} twice; rename one")
        if name.startswith("_") or hasattr(Case, name):
            raise ValueError(f"an axis has a name that no case has yet; got {name!r}; rename it")
        found[name] = tuple(dict.fromkeys(sizes)) if isinstance(sizes, Sequence) else (sizes,)
        if not found[name] or not all(type(size) is int and size >= 1 for size in found[name]):
            raise ValueError(
                f"the axis {name} has sizes, whole numbers of at least 1; got {sizes!r}; give some"
            )
    if not found:
        raise ValueError("it must have an axis; got none; name its sizes")
    return found


def _register(own: OwnOperation, made: Operation) -> None:
    """Register an operation, unless it is wrong at its least sizes."""
    register_operation(made)
    try:
        case = Case(made.name, "cpu", "float64", sizes=made.least_sizes)
        inputs = own.check_inputs(case)
        OPERATIONS[made.name] = replace(made, inputs=inputs)
        own.check_results(case)
        _ = case.least_flops, case.least_bytes  # an error, if one is no cost
    except BaseException:
        del OPERATIONS[made.name]
        raise


class OwnOperation:
    """What a user's class declares, as the functions that an `Operation` consists of.

    Attributes:
        name: The operation's name.
        state: The names of the inputs that a call changes.
        arguments: The names of all inputs in their order, as a kernel takes them.
        results: The names of what the oracle returns.
    """

    def __init__(
        self,
        name: str,
        state: tuple[str, ...],
        inputs: Callable[..., Any],
        oracle: Callable[..., Any],
        error_scale: Callable[..., Any] | None,
        traced: bool = True,
    ) -> None:
        self.name, self.state = name, state
        self._inputs, self._oracle, self._scale = inputs, oracle, error_scale
        self.arguments: tuple[str, ...] = ()
        self.results: tuple[str, ...] = ()
        self._start: Any = namedtuple("Start", state) if all(map(str.isidentifier, state)) else None
        self._trace = cache(self._traced if traced else lambda *sizes: None)

    def draw(self, problem: Problem, names: Sequence[str]) -> dict[str, Any]:
        """Draw all inputs for a problem; those that are its state become its `start`."""
        case = problem.case
        found: dict[str, Any] = {
            name: value.detach().to(
                device=case.device,
                dtype=DTYPES[case.dtype] if value.is_floating_point() else None,
                copy=True,
            )
            for name, value in self._drawn(case, problem.seed).items()
        }
        if self.state:
            found[START] = self._start(*(found.pop(name) for name in self.state))
        return found

    def oracle(self, problem: Problem, calls: int) -> tuple[Tensor, ...]:
        """Return the results after so many calls from the start, in float64."""
        values, found = self._values(problem), tuple[Tensor, ...]()
        for _ in range(calls if self.state else 1):
            found = _tensors(self._oracle(*_copies(values)))
            values |= dict(zip(self.state, found, strict=False))
        return tuple(value.detach() for value in found)

    def error_scale(self, problem: Problem, calls: int, expected: Any) -> tuple[Tensor, ...]:
        """Return what the user's function says of the inputs at the start."""
        assert self._scale is not None
        return _tensors(self._scale(*_copies(self._values(problem))))

    def bind(self, function: Callable[..., Any], problem: Problem) -> Callable[[], Any]:
        """Bind a function of all tensors."""
        return partial(function, *(getattr(problem, name) for name in self.arguments))

    def result_shapes(self, *sizes: int) -> dict[str, tuple[int, ...]] | None:
        """Return the shapes of the results by name; None where numbers have to be computed."""
        traced = self._trace(*sizes)
        return None if traced is None else traced.results

    def input_bytes(self, *sizes_and_itemsize: int) -> int | None:
        """Return the bytes of the inputs, from the sizes and the item size."""
        *sizes, itemsize = sizes_and_itemsize
        traced = self._trace(*sizes)
        return None if traced is None else traced.float_numbers * itemsize + traced.other_bytes

    def _drawn(self, case: Case, seed: int) -> Any:
        return self._inputs(case, torch.Generator().manual_seed(seed))

    def _values(self, problem: Problem) -> dict[str, Tensor]:
        held = (problem.start if name in self.state else problem for name in self.arguments)
        return {name: getattr(one, name) for name, one in zip(self.arguments, held, strict=True)}

    def _traced(self, *sizes: int) -> Traced | None:
        """Find shapes by torch's fake tensors; None where a function needs the numbers."""
        from torch._subclasses.fake_tensor import FakeTensorMode  # loads much, and only here

        try:
            with FakeTensorMode():
                drawn = self._drawn(Case(self.name, "cpu", "float64", sizes=sizes), 0).values()
                found = _tensors(self._oracle(*drawn))
            results = {name: tuple(one.shape)
                       for name, one in zip(self.results, found, strict=True)}  # fmt: skip
        except Exception:  # whatever a function does with a number that is not there
            return None
        floats = sum(one.numel() for one in drawn if one.is_floating_point())
        return Traced(floats, sum(one.nbytes for one in drawn) - 8 * floats, results)

    def check_inputs(self, case: Case) -> tuple[str, ...]:
        """Refuse inputs that no kernel can be given; return the names of the operation's inputs."""
        drawn, again, others = (
            _attempt("inputs", case, partial(self._drawn, case, seed)) for seed in (0, 0, 1)
        )
        if not isinstance(drawn, Mapping) or not drawn:
            raise ValueError("inputs must return a dictionary of tensors by name; got "
                             f"{type(drawn).__name__}; name each")  # fmt: skip
        if not tuple(drawn) == tuple(again) == tuple(others):
            raise ValueError("inputs must have the same names for every seed; got "
                             f"{', '.join(drawn)} and {', '.join(others)}")  # fmt: skip
        for name, value in drawn.items():
            _require_input(name, value)
            if not value.equal(again[name]):
                raise ValueError(f"inputs must draw the same from the same generator; {name} "
                                 "differs; draw it by generator=generator")  # fmt: skip
            if value.shape != others[name].shape:
                came = f"{tuple(value.shape)} and {tuple(others[name].shape)}"
                raise ValueError(f"inputs must have one shape for every seed; {name} has {came}")
        self.arguments = tuple(drawn)
        for name in self.state:
            if name not in drawn or not drawn[name].is_floating_point():
                raise ValueError(f"state is of inputs in float64; got {name!r} besides "
                                 f"{', '.join(drawn)}; name one of them")  # fmt: skip
        data = tuple(name for name in drawn if name not in self.state)
        return (*data, START) if self.state else data

    def check_results(self, case: Case) -> None:
        """Refuse an oracle, or a scale of errors, whose results are none to hold a kernel against.

        They must be tensors in float64, of shapes that do not depend on the numbers.
        """
        found, other = (
            _attempt("oracle", case, partial(self._computed, self._oracle, case, seed))
            for seed in (0, 1)
        )
        names = (*self.state,) or getattr(found, "_fields", None)
        results, again = _require_results("oracle", found), _require_results("oracle", other)
        self.results = names or numbered(results)
        shapes = [tuple(one.shape) for one in results]
        if shapes != [tuple(one.shape) for one in again]:
            raise ValueError("oracle must return the same shapes for every seed; got "
                             f"{shapes} and {[tuple(one.shape) for one in again]}")  # fmt: skip
        drawn = self._drawn(case, 0)
        if self.state and shapes != [tuple(drawn[name].shape) for name in self.state]:
            raise ValueError("oracle must return the state after a call, a tensor for each of "
                             f"{', '.join(self.state)}; got the shapes {shapes}")  # fmt: skip
        if self._scale is not None:
            scale = _attempt("error_scale", case, lambda: self._computed(self._scale, case, 0))
            if [tuple(one.shape) for one in _require_results("error_scale", scale)] != shapes:
                raise ValueError("error_scale must return a number for each of the oracle's; got "
                                 f"other shapes than {shapes}")  # fmt: skip

    def _computed(self, function: Any, case: Case, seed: int) -> Any:
        return function(*_copies(self._drawn(case, seed)))


def _require_input(name: Any, value: Any) -> None:
    if not (isinstance(name, str) and name.isidentifier()):
        raise ValueError(f"an input is named by letters, digits and _; got {name!r}; rename it")
    if name == START or name.startswith("_") or name in _OF_PROBLEMS:
        raise ValueError(f"an input has a name that no problem has yet; got {name!r}; rename it")
    if not isinstance(value, Tensor):
        came = type(value).__name__
        raise ValueError(
            f"inputs must be tensors; {name} is {came}; make it one, or say numpy=True"
        )
    whole = not (value.is_floating_point() or value.is_complex())
    if value.device.type != "cpu" or not (whole or value.dtype == torch.float64):
        raise ValueError(f"inputs must be drawn on the CPU, numbers in float64; {name} is "
                         f"{value.dtype} on {value.device}; draw it so")  # fmt: skip
    if not value.numel():
        raise ValueError(f"inputs must not be empty; {name} is; draw some numbers")


def _require_results(part: str, found: Any) -> tuple[Tensor, ...]:
    results = (found,) if isinstance(found, Tensor) else found
    if not isinstance(results, tuple) or not results:
        raise ValueError(f"{part} must return a tensor or a tuple of tensors; got "
                         f"{type(found).__name__}")  # fmt: skip
    for value in results:
        if not isinstance(value, Tensor) or value.dtype != torch.float64:
            came = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{part} must return tensors in float64; got {came}; compute it so")
    return results


def _attempt(part: str, case: Case, action: Callable[[], Any]) -> Any:
    """Return what a user's function does; whatever it raises becomes one line."""
    try:
        return action()
    except Exception as error:
        said = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        sizes = ", ".join(f"{axis} = {size}" for axis, size in case.by_axis.items())
        line = " ".join(f"{part} must work at its least sizes, {sizes}; it says {said}".split())
        raise ValueError(f"{line}; mend it") from error


def _tensors(found: Any) -> tuple[Tensor, ...]:
    return (found,) if isinstance(found, Tensor) else tuple(found)


def _copies(values: Mapping[str, Tensor]) -> list[Tensor]:
    """Return copies, numbers in float64: an oracle may write to them."""
    return [
        value.to(dtype=torch.float64 if value.is_floating_point() else None, copy=True)
        for value in values.values()
    ]
