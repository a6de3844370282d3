"""Calls timed on inputs that no cache of the device holds: cold, beside the usual hot ones.

A call that is repeated finds its inputs in a cache as far as they fit; a mini-batch of a training
comes from memory. Here a kernel is bound to several problems whose inputs lie apart. Before each
batch these inputs are evicted, as the device does it, on a processor with the addresses of their
pages; then the call of each problem is timed once, in a row. Parameters and code stay in the
caches of a processor where the calls before left them.

The tables in which a processor looks these addresses up are memory too, which no program can evict.
Where calls are short, problems are so many that their inputs take the place of the tables in the
last cache, as a training's data do: of 720 KB a step then took 41 µs in place of 32.
"""

from copy import deepcopy

from mlr import OPERATIONS, Kernel, Problem

from ..machine.devices import Call, Device, device_of
from .ratio import LONGEST_WARMED_S
from .side_effects import inputs_of
from .timing import TimedBatch, first_call, repeats_of, time_batch

MOST_PROBLEMS = 64
MOST_BYTES = 2**24  # of the inputs of all problems, which come from memory in a millisecond or two
BIND_S = 0.05  # binding the others and their first calls: beyond it no further one is bound
MOST_DISPLACING = 384  # problems, whose inputs are three times the last cache or as many bytes
DISPLACING_BYTES = 2**27
COMPILED_S = 0.5  # a first call that took so long is not made for another problem


class ColdTarget:
    """A kernel on several problems, made ready for batches that begin with cold inputs.

    See `ratio.TimedTarget`. As many calls as a batch times are made before it and not timed, except
    before long ones. A kernel that is bound and called first for long, as by a compiler, has few
    problems.
    """

    def __init__(
        self, kernel: Kernel, problem: Problem, call: Call, about_s: float, first_call_s: float
    ) -> None:
        self._device, self.targets, problems = problem.case.device, [call], [problem]
        held = sum(tensor.untyped_storage().nbytes() for _, tensor in inputs_of(problem))
        count = min(MOST_PROBLEMS, repeats_of(about_s), 1 + MOST_BYTES // held)
        count = max(count, _displacing(device_of(self._device), held, about_s))
        # What was compiled for one may serve all others.
        left_s = BIND_S if first_call_s < COMPILED_S + BIND_S else 0.0
        while len(self.targets) < count and left_s > 0.0:
            problems.append(deepcopy(problem.share_inputs()))  # the same values, apart in memory
            target, spent_s = first_call(kernel.bind, problems[-1])
            self.targets.append(target)
            left_s -= spent_s
        inputs = [tensor for one in problems for _, tensor in inputs_of(one)]
        self.evict = device_of(self._device).evictor(inputs)
        self.about_s, self._is_warmed = about_s, about_s < LONGEST_WARMED_S
        self.calls = (1 + self._is_warmed) * len(self.targets)

    def time_batch(self) -> TimedBatch:
        """Call on every problem once, evict all inputs, and time the same calls again."""
        if self._is_warmed:
            self._call_all()
        self.evict()
        batch, count = time_batch(self._call_all, 1, self._device), len(self.targets)
        return TimedBatch(batch.seconds / count, batch.cpu_seconds / count)

    def _call_all(self) -> None:
        for call in self.targets:
            call()


def _displacing(device: Device, held: int, about_s: float) -> int:
    """Return how many problems take the place of all else in the last cache; 1 if not shortly."""
    if not device.is_host:
        return 1
    count = 1 + min(3 * device.cache_bytes()[-1], DISPLACING_BYTES) // held
    return count if count <= MOST_DISPLACING and count * about_s <= LONGEST_WARMED_S else 1


def can_evict(problem: Problem) -> bool:
    """Say whether inputs of this problem can be made cold: tensors, on a device that can do it."""
    case = problem.case
    return device_of(case.device).can_evict and not OPERATIONS[case.operation].iterative
