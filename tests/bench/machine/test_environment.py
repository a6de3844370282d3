"""What a measuring process finds in its environment."""

import pytest

from bench.machine.environment import pinned_environment

PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"


@pytest.mark.parametrize(
    ("outside", "openmp", "jax"),
    [
        ({}, "1", "1"),
        ({"OMP_NUM_THREADS": "3"}, "3", "3"),
        ({"OMP_NUM_THREADS": "3", "PJRT_NPROC": "2"}, "3", "3"),
    ],
)
def test_one_thread_for_every_library_unless_the_user_says_otherwise(
    outside: dict[str, str], openmp: str, jax: str
) -> None:
    found = pinned_environment(outside | {"PATH": "/bin"})
    assert (found["OMP_NUM_THREADS"], found["PJRT_NPROC"]) == (openmp, jax)
    assert found["PATH"] == "/bin"


@pytest.mark.parametrize(("outside", "found"), [({}, "false"), ({PREALLOCATE: "true"}, "true")])
def test_jax_leaves_a_gpus_memory_to_the_others_unless_the_user_says_otherwise(
    outside: dict[str, str], found: str
) -> None:
    assert pinned_environment(outside)[PREALLOCATE] == found
