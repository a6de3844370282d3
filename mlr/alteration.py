"""Change the inputs of a call between two calls, where the call does not see that they changed.

A kernel that keeps a result, or leaves out the work once it has been checked, must take its inputs
for those that it knows. It may look at their address, at torch's count of writes to them, at the
problem's seed, at some of their numbers or at all of them. The changes here are written past
torch's count, into the same memory, at random places, and nothing else of the problem changes. The
result of a kernel that looks at less than all numbers is then wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random, SystemRandom
from typing import Any

from torch import Tensor

from .case import Case, Problem, overwrite, tensors_of
from .declaration import OPERATIONS, START
from .oracle import Check, check_result


def check_on_changed_inputs(problem: Problem, call: Callable[[], Any], *, resample: bool) -> Check:
    """Call on changed data, going on from the parameters, and hold the result against the oracle.

    One number of the data outweighs all others. Where an operation does not allow any number, one
    row is drawn anew; where its dtype does not hold one so large, or a call is a whole training,
    all are, as with `resample`.
    """
    case, chance = problem.case, SystemRandom()
    declared = OPERATIONS[case.operation]
    continue_from_here(problem)
    if resample or declared.iterative or case.dtype == "float16":
        resample_data(problem, chance.randrange(2**31))
        return check_result(problem, call())
    if not declared.probes:
        redraw_row(problem, chance)
        return check_result(problem, call())
    with one_number_raised(problem, chance):
        return check_result(problem, call(), one_outweighs=True)


def time_after_swaps(
    problem: Problem, time_call: Callable[[], float], count: int
) -> tuple[float, float]:
    """Return the seconds of a call on inputs that it has seen, and of one on changed inputs.

    They are lower quartiles of so many calls each, which a busy machine moves little. Before a call
    two numbers of each input are exchanged, or as many of a small problem of the same operation:
    both kinds of call so follow on the same work.
    """
    chance, case = SystemRandom(), problem.case
    least = OPERATIONS[case.operation].least_sizes
    other = Problem(Case(case.operation, case.device, case.dtype, sizes=least))

    def quartile_s(swapped: Problem) -> float:
        seconds = []
        for _ in range(count):
            swap_numbers(swapped, chance)
            seconds.append(time_call())
        return sorted(seconds)[count // 4]

    return quartile_s(other), quartile_s(problem)


def data_of(problem: Problem) -> dict[str, tuple[Tensor, ...]]:
    """Return the tensors that every call reads, by the name of their input."""
    declared = OPERATIONS[problem.case.operation]
    names = [name for name in declared.inputs if not (declared.trains and name == START)]
    return {name: tensors_of(getattr(problem, name)) for name in names}


def swap_numbers(problem: Problem, chance: Random) -> None:
    """Exchange two numbers, at random places, of each tensor of the data.

    It stays data of the same kind, whatever an operation asks of it: labels, or no zeros. Where it
    need not allow any number, as those with probes do, both are of one row, if that has several:
    one-hot rows stay so, and rows of a certain sum. Whole numbers beside others, which may be
    places in them, are left as they are.
    """
    anywhere = OPERATIONS[problem.case.operation].probes
    for _, tensor, _ in _numbers_of(problem):
        one, other = _place(tensor, chance), _place(tensor, chance)
        if not anywhere and tensor.ndim and tensor.shape[-1] > 1:
            other = (*one[:-1], other[-1])
        held = tensor.data[one].clone()
        tensor.data[one] = tensor.data[other]
        tensor.data[other] = held


def redraw_row(problem: Problem, chance: Random) -> None:
    """Draw one row of one tensor of the data anew: what the first axis has at a random place.

    Whoever looks at some of the numbers hardly looks at this one, and a result that is not of these
    very numbers is off by far more than rounding.
    """
    if not (numbers := _numbers_of(problem)):
        return  # all of its inputs are its state
    name, tensor, number = chance.choice(numbers)
    drawn = tensors_of(_drawn(problem, chance.randrange(2**31))[name])[number]
    place = _place(tensor, chance)[:1]
    tensor.data[place] = drawn[place]


def _numbers_of(problem: Problem) -> list[tuple[str, Tensor, int]]:
    """Return the tensors of floating-point data, or of other data where there are none.

    Each with the name of its input, and its number there.
    """
    found = [(name, tensor, number) for name, tensors in data_of(problem).items()
             for number, tensor in enumerate(tensors) if tensor.numel()]  # fmt: skip
    return [one for one in found if one[1].is_floating_point()] or found


def _drawn(problem: Problem, seed: int) -> dict[str, Any]:
    """Draw the inputs of another seed, without a change of the problem's."""
    own, problem.seed = problem.seed, seed
    try:
        return problem.draw()
    finally:
        problem.seed = own


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


def resample_data(problem: Problem, seed: int) -> None:
    """Draw other data, without a change of the problem's seed and parameters."""
    drawn = _drawn(problem, seed)
    for name, held in data_of(problem).items():
        overwrite(held, tensors_of(drawn[name]))


def continue_from_here(problem: Problem) -> None:
    """Make the parameters, as they are now, those that a stateful operation starts from."""
    if OPERATIONS[problem.case.operation].stateful:
        overwrite(problem.start, problem.parameters())


def _place(tensor: Tensor, chance: Random) -> tuple[int, ...]:
    return tuple(chance.randrange(size) for size in tensor.shape)
