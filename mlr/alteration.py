"""Change the inputs of a call that is being timed, so that the call itself cannot tell.

A kernel that keeps a result, or leaves out the work once it has been checked, must take its inputs
for those that it knows. It may look at their address, at torch's count of writes to them, at the
problem's seed, at some of their numbers or at all of them. What is changed here is written past
torch's count, into the same memory, at places that are drawn anew each time, and nothing else of
the problem changes. Whoever looks at less than all numbers will hold a result that is wrong.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from random import Random, SystemRandom
from typing import Any, NamedTuple

from torch import Tensor

from .case import OPERATIONS, Case, Problem, overwrite, tensors_of
from .oracle import Check, check_result

MOST_CALLS = 15
START = "start"  # the input that is where a training starts, and not its data


class Changed(NamedTuple):
    """How a call took inputs that changed."""

    seen_s: float  # seconds of a call on inputs that it has seen
    changed_s: float  # the same after a change
    check: Check  # of the result of the last, against the oracle


def time_on_changed_inputs(
    problem: Problem,
    time_call: Callable[..., float],
    timed_s: float,
    count: int,
    redrawn: bool,
) -> Changed:
    """Time calls on changed inputs and on ones that they have seen, and check the last result.

    So many calls, a few at most, follow an exchange of two numbers of each input; as many before
    them follow such an exchange elsewhere. Where there is but one call it is held against the
    seconds that are known of it. For the last, one number of the data outweighs all others, or all
    are drawn anew.

    Args:
        problem: The problem that the call is bound to.
        time_call: Makes one call and returns its seconds; adds the result to a list, if given one.
        timed_s: Seconds of a call on inputs that it has seen, as the timing has them.
        count: How many calls to make on changed inputs.
        redrawn: Whether all data are drawn anew for the last call.
    """
    case, chance = problem.case, SystemRandom()
    elsewhere = Problem(Case("gradient", case.device, case.dtype, 1, 1, 1))
    several = 1 if OPERATIONS[case.operation].iterative else min(count, MOST_CALLS)
    results: list[Any] = []

    def time_after_swap(swapped: Problem) -> float:
        swap_numbers(swapped, chance)
        return time_call()

    seen = [time_after_swap(elsewhere) for _ in range(several)] if several > 1 else [timed_s]
    changed = [time_after_swap(problem) for _ in range(several - 1)]
    with _changed(problem, chance, redrawn):
        changed.append(time_call(results))
        found = check_result(problem, results[0])
    return Changed(statistics.median(seen), statistics.median(changed), found)


def _changed(problem: Problem, chance: Random, redrawn: bool) -> AbstractContextManager[None]:
    """Change the data, one number where that may be any, and go on from the parameters."""
    continue_from_here(problem)
    any_number = OPERATIONS[problem.case.operation].probes and problem.case.dtype != "float16"
    if any_number and not redrawn:
        return one_number_raised(problem, chance)
    redraw(problem, chance.randrange(2**31))
    return nullcontext()


def data_of(problem: Problem) -> dict[str, tuple[Tensor, ...]]:
    """Return the tensors that every call reads, by the name of their input."""
    declared = OPERATIONS[problem.case.operation]
    names = [name for name in declared.inputs if not (declared.trains and name == START)]
    return {name: tensors_of(getattr(problem, name)) for name in names}


def swap_numbers(problem: Problem, chance: Random) -> None:
    """Exchange two numbers, at random places, of each tensor of the data.

    It stays data of the same kind, whatever an operation asks of it: labels, or no zeros.
    """
    for tensors in data_of(problem).values():
        for tensor in tensors:
            if tensor.numel() == 0:
                continue
            one, other = _place(tensor, chance), _place(tensor, chance)
            held = tensor.data[one].clone()
            tensor.data[one] = tensor.data[other]
            tensor.data[other] = held


@contextmanager
def one_number_raised(problem: Problem, chance: Random) -> Iterator[None]:
    """Make one number of the data, at a random place, so large that the results depend on it.

    m·n·o times the largest one: no rounding in sums over all the others then hides that it changed.
    The operation must allow any number, as those with probes do. After that the number, and the
    parameters of a training, are what they were at its start.
    """
    tensor = chance.choice([one for some in data_of(problem).values() for one in some])
    place, largest = _place(tensor, chance), float(tensor.detach().abs().max())
    held = tensor.data[place].clone()
    tensor.data[place] = math.prod(problem.case.sizes) * max(largest, 1.0)
    try:
        yield
    finally:
        tensor.data[place] = held
        if OPERATIONS[problem.case.operation].trains:
            problem.reset()


def redraw(problem: Problem, seed: int) -> None:
    """Draw other data; the problem's seed and the parameters stay as they are."""
    own, problem.seed = problem.seed, seed
    drawn = problem.draw()
    problem.seed = own
    for name, held in data_of(problem).items():
        overwrite(held, tensors_of(drawn[name]))


def continue_from_here(problem: Problem) -> None:
    """Make the parameters, as they are now, those that a stateful operation starts from."""
    if OPERATIONS[problem.case.operation].stateful:
        overwrite(problem.start, problem.parameters())


def _place(tensor: Tensor, chance: Random) -> tuple[int, ...]:
    return tuple(chance.randrange(size) for size in tensor.shape)
