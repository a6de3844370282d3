"""The environment of a measuring process: what keeps its numbers from moving, and why.

Chosen by measurement, recorded in every run. What the user has set already is kept.

How OpenMP's threads wait is left as it is: with `OMP_WAIT_POLICY=passive` a call of two threads on
a virtual machine of two cores first has to wake a core that sleeps, 0.1 ms each time, and a product
of 33 x 6 -> 3 took 14 times as long; with `active` they spin while nothing is called, and a kernel
that sleeps would look busy.
"""

from collections.abc import Mapping

LARGEST_HEAP = str(2**36)
# Of a kernel and its library, unless the user says otherwise: the steadiest number, fair to every
# library. Where threads fill the machine, whatever else runs holds one of them up and the others
# wait at the next barrier: a Jacobian at 100 x 16 -> 16 took five times as long in one process as
# in the next, and no pairing helps against that.
THREADS = 1
PINNED_ENV = {
    # A temporary of some MB would toggle between pages mapped and faulted in anew at every call and
    # memory from the heap, which takes several times less for a Jacobian. Always the heap.
    "MALLOC_MMAP_THRESHOLD_": LARGEST_HEAP,
    "MALLOC_TRIM_THRESHOLD_": LARGEST_HEAP,
    "MALLOC_TOP_PAD_": str(2**26),
    "OMP_NUM_THREADS": str(THREADS),
    "PJRT_NPROC": str(THREADS),  # JAX's, which heeds no other
    # Hashes, and so the order of sets, are the same in every process.
    "PYTHONHASHSEED": "0",
    # The profiler that counts memory announces every start otherwise.
    "KINETO_LOG_LEVEL": "99",
}


def pinned_environment(outside: Mapping[str, str]) -> dict[str, str]:
    """Return a child's environment: the user's own, and what is pinned where it says nothing.

    A number of threads that the user gives OpenMP is also JAX's.
    """
    threads = outside.get("OMP_NUM_THREADS", PINNED_ENV["PJRT_NPROC"])
    return PINNED_ENV | {"PJRT_NPROC": threads} | dict(outside)
