"""What is told of a call beside its result: that it works on, prints, writes to its input."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from paths import ROOT

from bench.measure import side_effects as witness
from mlr import Case, Problem

# Each writes `name`, in its own way, to where a terminal would be.
WRITERS = """
import ctypes, os, sys
from mlr import Gradient, kernel

costs = dict(flops=lambda m, n, o, s: m, workspace=lambda m, n, o, s: 0)
libc, held = ctypes.CDLL(None), sys.stdout

def writer(name, write):
    def function(x, delta):
        write(name)
        return Gradient(x.T @ delta, delta.sum(0))
    function.__name__ = name
    kernel(stage="gradient", **costs)(function)

writer("by_print", print)
writer("by_print_to_stderr", lambda name: print(name, file=sys.stderr))
writer("by_descriptor", lambda name: os.write(1, name.encode()))
writer("by_descriptor_2", lambda name: os.write(2, name.encode()))
writer("by_c", lambda name: libc.printf(name.encode()))
writer("by_pythons_first_stream", lambda name: print(name, file=sys.__stdout__))
writer("by_a_stream_that_was_there_before", lambda name: print(name, file=held))
writer("not_at_all", lambda name: None)
"""


@pytest.mark.parametrize(
    ("cores", "said", "calls"),
    [
        ([0.0], False, 1),
        ([1.0, 1.0], True, 1),
        ([1.0, 0.0, 0.0], False, 2),  # waits awake for a little while, then sleeps
        ([0.1, 0.4, 0.18, 0.3, 0.25], True, 3),  # wants a core, and seldom gets one
        ([0.1] * witness.MOST_CALLS, False, witness.MOST_CALLS),
    ],
)
def test_what_works_on_is_told_from_what_waits(
    monkeypatch: pytest.MonkeyPatch, cores: list[float], said: bool, calls: int
) -> None:
    left, called = iter(cores), []
    monkeypatch.setattr(witness, "busy_while_idle", lambda: next(left))
    assert bool(witness.works_on(lambda: called.append(1))) == said
    assert len(called) == calls
    assert next(left, None) is None


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda x: x.T @ x, None),
        (lambda x: x.clone().neg_(), None),
        (lambda x: x.mul_(1.0), "writes to its input x"),
        (lambda x: torch.add(x, 0.0, out=x), "writes to its input x"),
        (lambda x: x.detach()[1:].neg_().neg_(), "writes to its input x"),
        (lambda x: x[0].neg_(), "changes its input x"),
        (lambda x: x.data.neg_(), "changes its input x"),
        (lambda x: x.numpy().fill(1.0), "changes its input x"),
        (lambda x: torch.from_dlpack(x).neg_(), "changes its input x"),
    ],
)
@pytest.mark.parametrize("stage", ["gradient", "step"])
def test_a_write_to_an_input_is_seen_by_its_value_or_by_torchs_count(
    stage: str, write: Callable[[torch.Tensor], object], said: str | None
) -> None:
    problem = Problem(Case(stage, "cpu", "float64", 7, 3, 2))
    with (
        pytest.raises(witness.DeceitError, match=f"^{said}") if said else nullcontext(),
        witness.inputs_untouched(problem),
    ):
        write(problem.x)


@pytest.mark.parametrize("capture", ["fd", "sys", "no"])
def test_what_a_kernel_writes_is_seen_under_every_capture(tmp_path: Path, capture: str) -> None:
    (tmp_path / "writers.py").write_text(WRITERS)
    names = [line.split('"')[1] for line in WRITERS.splitlines() if line.startswith("writer(")]
    if capture == "sys":  # pytest's own stream, in memory: what has kept hold of it is not seen
        names.remove("by_a_stream_that_was_there_before")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "bench", f"--kernel-file={tmp_path / 'writers.py'}",
         "--batch=7", "--features=3", "--outputs=2", "--device=cpu", "--dtype=float64",
         f"--kernel={','.join(names)}", f"--capture={capture}", "-p", "no:cacheprovider",
         f"--benchmark-json={tmp_path / 'run.json'}"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    run = json.loads((tmp_path / "run.json").read_text())
    said = {one["kernel"]: "; ".join(one["suspicions"]) for one in run["outcomes"]}
    assert set(said) == set(names)
    for name in names:
        seen = f"writes to the terminal: '{name}" in said[name]
        assert seen == (name != "not_at_all"), (name, said[name])
