"""The environment of a measuring process: what keeps its numbers from moving, and why.

Chosen by measurement, recorded in every run. What the user has set already is kept.

How OpenMP's threads wait is left as it is: with `OMP_WAIT_POLICY=passive` a call of two threads on
a virtual machine of two cores first has to wake a core that sleeps, 0.1 ms each time, and a product
of 33 x 6 -> 3 took 14 times as long; with `active` they spin while nothing is called, and a kernel
that sleeps would look busy.
"""

from __future__ import annotations

from collections.abc import Mapping

LARGEST_HEAP = str(2**36)

STEADY = {
    # A temporary of some MB would toggle between pages mapped and faulted in anew at every call and
    # memory from the heap, which takes several times less for a Jacobian. Always the heap.
    "MALLOC_MMAP_THRESHOLD_": LARGEST_HEAP,
    "MALLOC_TRIM_THRESHOLD_": LARGEST_HEAP,
    "MALLOC_TOP_PAD_": str(2**26),
    # Two threads that the system puts on one core make a kernel five times slower for a whole
    # process: ratios of a Jacobian had two modes, 0.2 and 1.1. Each thread keeps its core.
    "OMP_PROC_BIND": "true",
    "OMP_PLACES": "cores",
    # Hashes, and so the order of sets, are the same in every process.
    "PYTHONHASHSEED": "0",
    # The profiler that counts memory announces every start otherwise.
    "KINETO_LOG_LEVEL": "99",
}


def environment(outside: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child: the user's own, and what is steady where it says nothing.

    Args:
        outside: The environment of this process.
    """
    return STEADY | dict(outside)
