"""A measuring process from within: whose clock counts, and what is said of a pair."""

from types import SimpleNamespace
from typing import Any

import pytest
from fake_clock import FakeClock

from bench.common.errors import UserError
from bench.machine import devices
from bench.machine.host import DEVICES, Device
from bench.paired.call import Pair
from bench.paired.worker import Process, Spec


class Channel:
    """Keeps what is said, and asks for two slices."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.asked = [{"do": "slice"}, {"do": "slice"}, {"do": "go on"}]

    def say(self, event: str, **content: Any) -> None:
        self.said.append((event, content))

    def question(self) -> dict[str, Any]:
        return self.asked.pop(0)


def process(**spec: Any) -> tuple[Process, Channel]:
    channel = Channel()
    usual = {"arguments": (), "files": (), "tests": (), "closed": (), "counted": (), "number": 1}
    return Process(Spec(**(usual | spec)), channel), channel


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """A device whose time passes only when a call says so."""
    fake = FakeClock()
    accelerator = Device()
    accelerator.clock, accelerator.is_host = fake, False
    monkeypatch.setitem(DEVICES, "cuda", accelerator)
    monkeypatch.setattr(devices, "unavailable_reason", lambda device: None)
    return fake


ITEM: Any = SimpleNamespace()


def test_a_pair_is_timed_by_the_clock_of_its_device(clock: FakeClock) -> None:
    ours, theirs = clock.call(3e-4), clock.call(1e-4)
    for number in (1, 2):
        made, channel = process(number=number, counted=["test#1"])
        made(ITEM, Pair("test#1", ours, theirs, device="cuda:0", slower_than=2))
        (met, limits), (timed, found) = channel.said
        assert (met, timed) == ("met", "timed")
        assert limits["slower_than"] == 2
        assert found["ours_s"] == pytest.approx(3e-4)
        assert found["theirs_s"] == pytest.approx(1e-4)
        assert found["held"] is None


def test_bytes_are_counted_until_they_are_known() -> None:
    """Also where the first process could not: a limit of them is never left out."""
    made, channel = process(number=3)
    made(ITEM, Pair("test#1", lambda: len(bytes(10**5)), lambda: 10**5))
    ours, theirs = channel.said[-1][1]["held"]
    assert ours == pytest.approx(10**5, rel=0.05)
    assert theirs < 5_000


def test_slices_are_timed_when_they_are_asked_for(clock: FakeClock) -> None:
    made, channel = process()
    made(ITEM, Pair("test#1", clock.call(1e-4), against="main", device="cuda"))
    assert [event for event, _ in channel.said] == ["met", "ready", "slice", "slice", "served"]
    assert channel.said[2][1]["seconds"] == pytest.approx(1e-4)


def test_a_closed_pair_and_one_of_another_revision_are_left_out() -> None:
    made, channel = process(closed=["test#1"])
    made(ITEM, Pair("test#1", dict, dict))
    made, channel = process(revision="main")
    made(ITEM, Pair("test#1", dict, dict))
    made(ITEM, Pair("test#2", dict, against="other"))
    assert not channel.said


def test_what_raises_while_it_is_timed_is_refused() -> None:
    calls: list[int] = []

    def tires() -> None:
        calls.append(1)
        if len(calls) > 5:
            raise RuntimeError("tired")

    made, channel = process()
    with pytest.raises(UserError, match="a call must not raise; RuntimeError: tired"):
        made(ITEM, Pair("test#1", tires, tires))
    assert channel.said[-1][0] == "refused"
    assert not channel.said[-1][1]["differs"]


def test_a_device_that_is_not_here_is_one_line() -> None:
    made, channel = process()
    with pytest.raises(UserError, match="got 'abacus': known are cpu"):
        made(ITEM, Pair("test#1", dict, dict, device="abacus"))
    assert channel.said[-1][0] == "refused"
