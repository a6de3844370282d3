"""Training on files larger than memory: the same numbers as in memory, and bounded memory."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paths import ROOT
from recorded_cuda import RecordedCuda

from mlr import Batches, LinearRegression, TorchLinearRegression


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    source = np.random.default_rng(0)
    paths = tmp_path / "x.npy", tmp_path / "y.npy"
    for path, columns in zip(paths, (5, 2), strict=True):
        np.save(path, source.standard_normal((103, columns)))
    return paths


def model(kind: type = LinearRegression, **more: Any) -> Any:
    return kind(5, 2, dtype="float64", generator=torch.Generator().manual_seed(1), **more)


@pytest.mark.parametrize("kind", [LinearRegression, TorchLinearRegression])
def test_a_stream_trains_to_the_same_numbers(files: tuple[Path, Path], kind: type) -> None:
    x, y = (torch.from_numpy(np.load(path)) for path in files)
    whole, streamed = model(kind), model(kind)
    expected = whole.fit(x, y, 3, 0.1, 20, x[:9], y[:9])
    found = streamed.fit_batches(Batches(*files, 20), 3, 0.1, x[:9], y[:9])
    assert torch.equal(streamed.weight, whole.weight)
    assert torch.equal(streamed.bias, whole.bias)
    for one, other in zip(found, expected, strict=True):
        assert one.mse == pytest.approx(other.mse, rel=1e-14)
        assert one.mse_valid == other.mse_valid


def test_any_pairs_do(files: tuple[Path, Path]) -> None:
    x, y = (torch.from_numpy(np.load(path)) for path in files)
    batches = list(zip(x.split(20), y.split(20), strict=True))
    found = [model() for _ in range(3)]
    found[0].fit_batches(batches, 2, 0.1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=20)
    found[1].fit_batches(loader, 2, 0.1)
    mapped = (np.load(path, mmap_mode="r") for path in files)
    found[2].fit_batches(Batches(*mapped, 20), 2, 0.1)
    assert all(torch.equal(found[0].weight, other.weight) for other in found)


def test_a_part_of_a_mapping_is_that_part(files: tuple[Path, Path]) -> None:
    x, y = (np.load(path, mmap_mode="r") for path in files)
    ((first, second),) = Batches(x[10:30], y[20:50][:20], 100)
    assert np.array_equal(first.numpy(), x[10:30])
    assert np.array_equal(second.numpy(), y[20:40])


def test_a_gpu_computes_on_a_batch_while_the_next_is_copied(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies wait for nothing that uses the batch before; that before it is done with by then."""
    cuda = RecordedCuda(monkeypatch)
    cuda.record_copies(monkeypatch)
    batches, found = Batches(*files, 50), []
    batches.device = torch.device("cuda", 1)
    for x, _ in batches:
        cuda.log.append(("computed",))
        found.append(x)
    expected: list[tuple[Any, ...]] = []
    for number in (1, 2, 3):
        expected += [("synchronize", number - 1)] if number > 1 else []
        expected += [("record", "default of 1", number), *[("copy", "side 0 of 1")] * 2]
        expected += [("wait", "default of 1", "side 0 of 1"), *[("used", "default of 1")] * 2]
        expected += [("computed",)]
    assert cuda.log == expected
    assert torch.equal(torch.cat(found), torch.from_numpy(np.load(files[0])))


@pytest.mark.cuda
def test_a_gpu_trains_on_a_stream_to_the_numbers_of_the_cpu(tmp_path: Path) -> None:
    """In batches so large that a copy which is not waited for would be seen."""
    source, paths = np.random.default_rng(0), (tmp_path / "x.npy", tmp_path / "y.npy")
    for path, columns in zip(paths, (5, 2), strict=True):
        np.save(path, source.standard_normal((1_000_000, columns)))
    found = []
    for device in ("cpu", "cuda"):
        trained = model(device=device)
        trained.fit_batches(Batches(*paths, 100_000, device=device), 2, 0.1)
        found.append(trained.weight.cpu())
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-12)


def test_batches_are_counted_and_converted(files: tuple[Path, Path]) -> None:
    batches = Batches(*files, 50, dtype="float32")
    shapes = [(x.shape, y.shape, x.dtype) for x, y in batches]
    assert len(batches) == len(shapes) == 3
    assert shapes[-1] == ((3, 5), (3, 2), torch.float32)


def holding(values: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, values)


NO_NUMBERS = "must be a .npy file of numbers"
BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (Path.unlink, "No such file"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-40]), NO_NUMBERS),
    "text": (lambda path: path.write_text("1,2,3"), NO_NUMBERS),
    "empty": (lambda path: path.write_bytes(b""), NO_NUMBERS),
    "pickled": (holding(np.array([[{}]], dtype=object)), NO_NUMBERS),
    "flat": (holding(np.zeros(103)), "C-ordered matrix"),
    "whole": (holding(np.zeros((103, 5), dtype=np.int64)), "floating-point"),
    "fortran": (holding(np.asfortranarray(np.zeros((103, 5)))), "C-ordered"),
    "swapped": (holding(np.zeros((103, 5), dtype=">f8")), "C-ordered"),
    "none": (holding(np.zeros((0, 5))), "at least 1 row"),
    "rows": (holding(np.zeros((102, 5))), "as many rows"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_one_line(files: tuple[Path, Path], what: str) -> None:
    spoil, said = BAD[what]
    spoil(files[0])
    with pytest.raises(ValueError, match=said) as error:
        Batches(*files, 20)
    assert "\n" not in str(error.value)


def test_a_file_that_is_cut_while_it_is_read_is_one_line(files: tuple[Path, Path]) -> None:
    batches = iter(Batches(*files, 20))
    next(batches)
    files[0].write_bytes(files[0].read_bytes()[:2_000])
    with pytest.raises(ValueError, match="it ends before") as error:
        list(batches)
    assert "\n" not in str(error.value)


def test_a_bad_batch_ends_the_training_with_its_number(files: tuple[Path, Path]) -> None:
    x, y = (torch.from_numpy(np.load(path)) for path in files)
    pairs = list(zip(x.split(20), y.split(20), strict=True))
    x[45, 3] = torch.nan
    trained = model()
    with pytest.raises(ValueError, match="X of batch 2 must be finite"):
        trained.fit_batches(pairs, 1, 0.1)
    expected = model()
    expected.fit_batches(pairs[:2], 1, 0.1)
    assert torch.equal(trained.weight, expected.weight)


class Given:
    """Batches as some loader gives them: no type says what they are."""

    def __init__(self, *batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        """Begin anew."""
        return iter(self.batches)


@pytest.mark.parametrize(
    ("batches", "part"),
    [
        (Given(), "at least one"),
        (Given((torch.zeros(2, 5, dtype=torch.float64),)), "a pair X, Y"),
        (Given(torch.zeros(2, 5)), "a pair X, Y; got Tensor as batch 0"),
        (iter([1]), "iterable anew for each of 2 epochs"),
    ],
)
def test_batches_that_are_none_are_one_line(batches: Any, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        model().fit_batches(batches, 2, 0.1)


STREAMED = """
import sys
from pathlib import Path
from mlr import Batches, LinearRegression

def most_resident():  # of this program: getrusage's own figure outlives the exec that started it
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

before = most_resident()
batches = Batches(sys.argv[1], sys.argv[2], 10_000)
model = LinearRegression(batches.x.columns, batches.y.columns, dtype="float64")
history = model.fit_batches(batches, 1, 0.01)
grown = most_resident() - before
print(before + grown, grown, history[-1].mse)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts resident memory as Linux does")
def test_a_large_file_is_streamed_in_little_memory(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """`pytest tests/mlr/test_streaming.py -k large --gigabytes 4` takes files of that size."""
    gigabytes = pytestconfig.getoption("gigabytes")
    features, outputs = 32, 4
    rows = int(gigabytes * 1e9 / 8 / (features + outputs))
    source = np.random.default_rng(0)
    paths = tmp_path / "x.npy", tmp_path / "y.npy"
    for path, columns in zip(paths, (features, outputs), strict=True):
        room = np.lib.format.open_memmap(path, "w+", np.float64, (rows, columns))
        block = source.standard_normal((min(rows, 100_000), columns))
        for first in range(0, rows, len(block)):
            room[first : first + len(block)] = block[: rows - first]
        del room
    done = subprocess.run(
        [sys.executable, "-c", STREAMED, *map(str, paths)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    resident, grown, _ = map(float, done.stdout.split())
    print(f"{gigabytes} GB: {resident / 1e9:.2f} GB resident, {grown / 1e6:.0f} MB of it for it")
    assert sum(path.stat().st_size for path in paths) > 0.99e9 * gigabytes
    assert resident < 1e9
    assert grown < 5e7
    for path in paths:
        path.unlink()
