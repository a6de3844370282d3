"""Shape and type checks on every public function of mlr while the tests run."""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

# The hook must stand before mlr is first imported. Where beartype is missing (a machine that only
# lends its GPU), the tests run without it.
if find_spec("beartype") is not None:
    install_import_hook("mlr", "beartype.beartype")

# What was measured for the user of this machine is not what the tests expect.
os.environ["MLR_TUNING_TABLE"] = str(Path(__file__).with_name("no-tuning.json"))

# Tests that run at once do not wait for each other's runs: no number that they take is kept.
_OWN = tempfile.TemporaryDirectory(prefix="mlr-tests-")
os.environ["MLR_BENCH_LOCK"] = str(Path(_OWN.name, "timing.lock"))

# Files that take long: a process that began one of them last would leave the others idle.
LONGEST = {
    *(
        "test_fake_cuda.py",
        "test_plugin.py",
        "test_html.py",
        "test_distributed.py",
        "test_wheel.py",
    ),
    *("test_one_pass.py", "test_one_pass_fit.py", "test_attacks.py", "test_oracle.py"),
}

# A test starts runs of its own, which are no workers of this one: pytest-benchmark would not time.
for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
    del os.environ[name]

# A script that starts the tests in its background has them ignore SIGINT, and all they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# At the sizes of the tests a second thread only waits, and on a busy machine it waits long.
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the costly tests be made costlier: `pytest tests/bench/run -k kill --kills 20`."""
    parser.addoption("--kills", type=int, default=1, help="how many runs to kill (default: 1)")
    parser.addoption(
        "--gigabytes", type=float, default=0.1, help="the size of a streamed file (default: 0.1)"
    )
    parser.addoption(
        "--results", type=int, default=2_000, help="results that are stored (default: 2000)"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Number the kills: each is at another random moment."""
    if "kill" in metafunc.fixturenames:
        metafunc.parametrize("kill", range(metafunc.config.getoption("kills")))


@pytest.fixture(autouse=True)
def _same_kernels_after() -> Iterator[None]:
    """Forget the kernels and operations that a test registers: the next one plans without them."""
    from mlr import KERNELS, OPERATIONS

    before = dict(KERNELS), dict(OPERATIONS)
    yield
    for table, held in zip((KERNELS, OPERATIONS), before, strict=True):
        table.clear()
        table.update(held)


def pytest_collection_finish() -> None:
    """Leave what is loaded out of the collections of garbage to come, each of which it slows."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; skip CUDA tests, with the reason, without a CUDA device."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device on this machine")
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(skip)
