"""A measuring process from within: whose clock counts, and what is said of a pair."""

import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
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

    def __init__(self, last: str = "go on") -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.asked = [{"do": "slice"}, {"do": "slice"}, {"do": last}]

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


def test_bytes_are_counted_only_when_they_are_asked_for() -> None:
    """And not of a pair that is passed by: it may have ended the other process."""

    def ours() -> int:
        if tracemalloc.is_tracing():
            raise MemoryError
        return 1

    made, channel = process()
    made(ITEM, Pair("test#1", ours, against="main"))
    assert channel.said[-1] == ("served", {"held": None})
    made.channel = channel = Channel("count")
    with pytest.raises(UserError, match="a call must not raise; MemoryError"):
        made(ITEM, Pair("test#1", ours, against="main"))
    assert channel.said[-1][0] == "refused"
    made.channel = channel = Channel("count")
    made(ITEM, Pair("test#1", lambda: len(bytes(10**5)), against="main"))
    assert channel.said[-1][1]["held"] == pytest.approx(10**5, rel=0.05)


def test_a_process_neither_stops_early_nor_has_the_folders_of_the_session() -> None:
    made, _ = process(worker_input={"workerid": "paired", "randomly_seed": 3, "sock_port": 4})
    option = SimpleNamespace(
        maxfail=1, stepwise=True, stepwise_skip=True, stepwise_reset=True, basetemp="kept"
    )
    config: Any = SimpleNamespace(stash={}, option=option)
    made.pytest_configure(config)
    assert config.workerinput == {"workerid": "paired", "randomly_seed": 3, "sock_port": 4}
    assert vars(option) == {
        "maxfail": 0, "stepwise": False, "stepwise_skip": False, "stepwise_reset": False,
        "basetemp": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "own", "other", "packages", "is_refused"),
    [
        ("theirs", "src/theirs/__init__.py", "site-packages/theirs/__init__.py", [], True),
        ("theirs.part", "src/theirs/__init__.py", "site-packages/theirs/part.py", [], True),
        ("theirs", "python/theirs/__init__.py", "site-packages/theirs/__init__.py", [], True),
        ("theirs", "theirs.py", "site-packages/theirs.py", [], True),
        ("theirs", "other/theirs/__init__.py", "site-packages/theirs/__init__.py", [], False),
        ("theirs", "other/theirs/__init__.py", "lib/theirs/__init__.py", ["theirs"], True),
        ("theirs", "src/theirs/__init__.py", "lib/theirs/__init__.py", ["named"], False),
        ("named.part", "src/named/part.py", "site-packages/named/part.py", [], True),
        ("named.other", "src/named/part.py", "site-packages/named/other.py", [], False),
        ("theirs", "theirs/data.txt", "site-packages/theirs/__init__.py", [], False),
        ("theirs", "src/theirs/__init__.py", "revision/src/theirs/__init__.py", [], False),
        ("theirs", "src/theirs/__init__.py", "link/src/theirs/__init__.py", [], False),
        ("json", "src/json/__init__.py", "lib/json/__init__.py", [], False),
    ],
)
def test_a_module_that_the_revision_has_must_come_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, own: str, other: str,
    packages: list[str], is_refused: bool,
) -> None:  # fmt: skip
    folder, at = tmp_path.resolve() / "revision", tmp_path / other
    (tmp_path / "link").symlink_to(folder)
    for path in (folder / own, at):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    module = ModuleType(name)
    module.__file__ = str(at)
    monkeypatch.setitem(sys.modules, name, module)
    of = {"revision": "main", "folder": str(folder), "root": str(tmp_path / "repository")}
    made, channel = process(**of, packages=packages)
    made._own = sys.modules.keys() - {name}
    if is_refused:
        with pytest.raises(UserError, match=f"{name} comes from .*: name it in packages"):
            made(ITEM, Pair("test#1", dict, against="main"))
        assert channel.said[-1][0] == "refused"
    else:
        made(ITEM, Pair("test#1", dict, against="main"))
        assert channel.said[-1][0] == "served"


def test_a_namespace_package_lies_where_its_folders_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("theirs")
    monkeypatch.setitem(sys.modules, "theirs", module)
    usual = {"revision": "main", "folder": str(tmp_path.resolve()), "packages": ["theirs"]}
    for place, last in ((tmp_path / "src" / "theirs", "served"), ("/else/theirs", "refused")):
        module.__path__ = [str(place)]
        made, channel = process(**usual, root="/nowhere")
        made._own = sys.modules.keys() - {"theirs"}
        with suppress(UserError):
            made(ITEM, Pair("test#1", dict, against="main"))
        assert channel.said[-1][0] == last


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
