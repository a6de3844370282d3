"""What is told of a call beside its result: that it works on, prints, writes to its input."""

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import TextIO

import pytest
import torch

from bench.measure import side_effects
from bench.measure.side_effects import (
    WrongResultError,
    inputs_untouched,
    observe_side_effects,
    require_no_background_work,
)
from mlr import Case, Problem

LIBC = ctypes.CDLL(None)
# Each writes its name, in its own way, to where a terminal would be.
WRITERS: dict[str, Callable[[str, TextIO], object]] = {
    "by_print": lambda name, _: print(name),
    "by_print_to_stderr": lambda name, _: print(name, file=sys.stderr),
    "by_descriptor": lambda name, _: os.write(1, name.encode()),
    "by_descriptor_2": lambda name, _: os.write(2, name.encode()),
    "by_c": lambda name, _: LIBC.printf(name.encode()),
    "by_pythons_first_stream": lambda name, _: print(name, file=sys.__stdout__),
    "by_a_stream_that_was_there_before": lambda name, held: print(name, file=held),
    "not_at_all": lambda name, _: None,
}


@pytest.mark.parametrize(
    ("cores", "threads", "said", "calls"),
    [
        ([0.0], 1, False, 1),
        ([1.0, 1.0], 1, True, 1),
        ([1.0, 0.0, 0.0], 1, False, 2),  # waits awake for a little while, then sleeps
        ([0.1, 0.4, 0.18, 0.3, 0.25], 1, True, 3),  # wants a core, and seldom gets one
        ([0.1] * side_effects.MAX_CALLS, 1, False, side_effects.MAX_CALLS),
        ([1.0] * (1 + side_effects.AWAKE_LOOKS), 2, True, 1),
        ([1.0] * side_effects.AWAKE_LOOKS + [0.0] * 2, 2, False, 2),
    ],
)
def test_what_works_on_is_told_from_what_waits(
    monkeypatch: pytest.MonkeyPatch, cores: list[float], threads: int, said: bool, calls: int
) -> None:
    left, called = iter(cores), []
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(side_effects, "background_cpu_usage", lambda: next(left))
    found = pytest.raises(WrongResultError, match="works on") if said else nullcontext()
    with found:
        require_no_background_work(lambda: called.append(1))
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
@pytest.mark.parametrize("operation", ["gradient", "step"])
def test_a_write_to_an_input_is_seen_by_its_value_or_by_torchs_count(
    operation: str, write: Callable[[torch.Tensor], object], said: str | None
) -> None:
    problem = Problem(Case(operation, "cpu", "float64", 7, 3, 2))
    with (
        pytest.raises(WrongResultError, match=f"^{said}") if said else nullcontext(),
        inputs_untouched(problem),
    ):
        write(problem.x)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("capture", ["fd", "sys", "no"])
def test_what_a_call_writes_is_seen_under_every_capture(
    name: str, capture: str, request: pytest.FixtureRequest
) -> None:
    unseen = {"not_at_all"}
    if capture == "sys":  # pytest's own stream, in memory: what has kept hold of it is not seen
        request.getfixturevalue("capsys")
        unseen.add("by_a_stream_that_was_there_before")
    manager = request.config.pluginmanager.getplugin("capturemanager")
    with manager.global_and_fixture_disabled() if capture == "no" else nullcontext():
        held = sys.stdout
        _, seen = observe_side_effects(lambda: WRITERS[name](name, held))
    assert len(seen) == (name not in unseen)
    assert all(one.startswith(f"writes to the terminal: '{name}") for one in seen)
