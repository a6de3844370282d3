"""The environment of a measuring process: what keeps its numbers from moving, and why.

Chosen by measurement, recorded in every run. What the user has set already is kept.

How OpenMP's threads wait is left as it is, but for how long they stay awake: with
`OMP_WAIT_POLICY=passive` a call of two threads on a virtual machine of two cores first has to wake
a core that sleeps, 0.1 ms each time, and a product of 33 x 6 -> 3 took 14 times as long; with
`active` they spin while nothing is called, and a kernel that sleeps would look busy.
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
    # JAX would take three quarters of a GPU's memory at its first call, in the middle of a run that
    # was planned with all of it.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # OpenBLAS's threads would wait awake for 2^28 ticks, 0.1 s, after a call, and hold up what is
    # timed next; for 2^22 they still are awake at the next of many calls.
    "OPENBLAS_THREAD_TIMEOUT": "22",
    # GNU OpenMP's would wait awake for 300,000 pauses of the processor, up to 20 ms: between slices
    # of `torch.nn` a kernel with two threads of its own took 1.1 to 2.6 times as long as with
    # 10,000, below a millisecond, which cost torch's own calls nothing that could be measured.
    "GOMP_SPINCOUNT": "10000",
    # Hashes, and so the order of sets, are the same in every process.
    "PYTHONHASHSEED": "0",
    # The profiler that counts memory announces every start otherwise.
    "KINETO_LOG_LEVEL": "99",
}
THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    "PJRT_NPROC",  # JAX's, which heeds no other
)


def thread_settings(threads: int | str) -> dict[str, str]:
    """Return the variables that give every library so many threads when it is loaded."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def pinned_environment(outside: Mapping[str, str], threads: int | None = None) -> dict[str, str]:
    """Return a child's environment: the user's own, and what is pinned where it says nothing.

    Every library has the same number of threads: the one given, or else the user's OMP_NUM_THREADS.
    """
    number = outside.get("OMP_NUM_THREADS", THREADS) if threads is None else threads
    return PINNED_ENV | dict(outside) | thread_settings(number)
