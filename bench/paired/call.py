"""What a test hands to `paired`: two callables, their inputs and the limits, all of it checked."""

import copy
import math
import sys
import traceback
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from dataclasses import KW_ONLY, dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from ..common.errors import UserError, in_one_line, single_line
from ..machine.host import Call, device_of
from .equality import REMEDY, difference

Function = Callable[..., Any]
# What has not begun its work when it is returned: the first value is asked for later.
LAZY = (AsyncGenerator, Coroutine, Generator, filter, map, zip)


class DifferError(UserError):
    """The results of ours and theirs are not equal."""


@dataclass(frozen=True)
class Pair:
    """One call of the fixture `paired`, whose arguments these are.

    Raises:
        UserError: They are none that it takes.
    """

    id: str  # that of its test, `#`, and its number among the calls in it
    ours: Function
    theirs: Function | None = None
    _: KW_ONLY
    inputs: Callable[[], Any] | None = None
    slower_than: float = 1.05
    larger_than: float | None = None
    against: str | None = None
    device: str = "cpu"
    equal: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        """Check them."""
        for name in ("ours", "theirs", "inputs", "equal"):
            value = getattr(self, name)
            if not callable(value) and (name == "ours" or value is not None):
                raise _refusal(name, "a function, and not what it returns", value)
        for name in ("slower_than", "larger_than"):
            value = getattr(self, name)
            if value is None and name == "larger_than":
                continue
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            if not is_number or not 0 < value < math.inf:
                raise _refusal(name, "a number above 0, such as 1.05 for 5 % more", value)
        for name in ("against", "device"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value) and (name == "device" or value is not None):
                raise _refusal(name, "a name, such as against='main' or device='cpu'", value)
        if (self.theirs is None) == (self.against is None):
            raise UserError(
                "paired compares ours with theirs or, by against=, with the same test at another "
                f"revision; got {'neither' if self.theirs is None else 'both'}: give one of them"
            )

    def calls(self, turn: int = 0) -> list[Call]:
        """Return ours, and theirs if there is one, each with a deep copy of the inputs of its own.

        In odd turns the inputs of theirs are copied first: they are then first in memory.

        Raises:
            UserError: `inputs` raises, or what it returns cannot be copied.
        """
        given = () if self.inputs is None else self._guarded("inputs", self.inputs)
        arguments = given if isinstance(given, tuple) else (given,)
        functions = [one for one in (self.ours, self.theirs) if one is not None]
        step = -1 if turn % 2 else 1
        made: list[Call] = []
        for function in functions[::step]:
            own = self._guarded("a deep copy of inputs()", partial(copy.deepcopy, arguments))
            made.append(partial(function, *own) if own else function)
        return made[::step]

    def check(self, *calls: Call) -> None:
        """Call each once, and compare the results.

        Raises:
            DifferError: They are not equal.
            UserError: A call raises, or the comparison does, or a result is yet to be worked out.
        """
        results: list[Any] = []
        for name, call in zip(("ours", "theirs"), calls, strict=False):
            results.append(self._guarded(name, call))
            _require_work(name, results[-1])
        if len(results) < 2:
            return
        how = difference(*results) if self.equal is None else self._said_by_equal(*results)
        if how is not None:
            raise DifferError(f"the results of ours and theirs must be equal; {how}: {REMEDY}")

    def _said_by_equal(self, ours: Any, theirs: Any) -> str | None:
        """Ask `equal`, which says whether they are, or asserts that they are and returns None."""
        try:
            said = self.equal(ours, theirs)  # type: ignore[misc]
            return None if said is None or bool(said) else "equal= says that they are not"
        except AssertionError as error:
            return single_line(" ".join(str(error).split()), 300) or "equal= says that they are not"
        except Exception as error:
            raise UserError(
                f"equal= must say whether two results are equal; {told(error)}"
            ) from error

    def _guarded(self, name: str, call: Call) -> Any:
        try:
            return call()
        except Exception as error:
            raise UserError(f"{name} must not raise; {told(error)}: correct it") from error


def _require_work(name: str, result: Any) -> None:
    """Refuse what is only prepared by a call, whose time would be that of the preparation."""
    if not isinstance(result, LAZY):
        return
    if isinstance(result, Coroutine):
        result.close()  # or Python would warn that nothing awaited it
    raise UserError(
        f"{name} of paired must do its work when it is called; it returned a "
        f"{type(result).__name__}, which has not begun: use list(...) or asyncio.run(...) in it"
    )


def told(error: BaseException) -> str:
    """Say what was raised, and where."""
    place = ""
    if frames := traceback.extract_tb(error.__traceback__):
        place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})"
    return f"{in_one_line(error)}{place}"


def peak_bytes(call: Call, device: str) -> int:
    """Return the most bytes that a call holds: of Python and NumPy, and of torch if it is loaded.

    Each is counted from zero, in a call of its own.
    """
    of = device_of(device)
    held = of.python_bytes(call)
    return held + (of.allocations(call).peak_bytes if "torch" in sys.modules else 0)


def _refusal(name: str, rule: str, value: Any) -> UserError:
    kind = type(value).__name__
    try:
        shown = single_line(repr(value), 60)
    except Exception:  # of an object of the user's, whose repr fails
        shown = "one"
    return UserError(f"{name} of paired must be {rule}; got {shown} ({kind}): correct it")
