"""How many threads a process may have, on machines that are made up: SMT, affinity and quotas."""

import os
from pathlib import Path

import psutil
import pytest

from bench.machine import cores


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of four cores with two threads each, 0 and 4 on one, without a quota."""
    for name in range(8):
        (tmp_path / f"cpu{name}").write_text(f"{name % 4},{name % 4 + 4}\n")
    (tmp_path / "group").write_text("0::/a/b\n")
    (tmp_path / "cgroup" / "a" / "b").mkdir(parents=True)
    monkeypatch.setattr(cores, "SIBLINGS", f"{tmp_path}/cpu{{}}")
    monkeypatch.setattr(cores, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "GROUP_OF_PROCESS", tmp_path / "group")
    allow(monkeypatch, set(range(8)))
    return tmp_path


def allow(monkeypatch: pytest.MonkeyPatch, processors: set[int]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: processors, raising=False)


@pytest.mark.parametrize(
    ("processors", "expected"),
    [
        (set(range(8)), (4, 8)),
        ({0, 4}, (1, 2)),  # both threads of one core
        ({0, 1, 2}, (3, 3)),
        ({3, 4, 7}, (2, 3)),
        ({5}, (1, 1)),
    ],
)
def test_cores_are_those_of_the_affinity(
    processors: set[int], expected: tuple[int, int], machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, processors)
    assert cores.usable() == expected


@pytest.mark.parametrize(
    ("group", "limit", "expected"),
    [
        ("a/b", "300000 100000", (3, 3)),
        ("a/b", "550000 100000", (4, 5)),
        ("a/b", "50000 100000", (1, 1)),  # half of a processor is still one thread
        ("a/b", "max 100000", (4, 8)),
        ("a", "200000 100000", (2, 2)),  # of the group above
        ("", "600000 100000", (4, 6)),  # of a container, which sees itself as the root
        ("other", "100000 100000", (4, 8)),
        ("a/b", "", (4, 8)),
    ],
)
def test_a_quota_of_cgroup_v2(
    group: str, limit: str, expected: tuple[int, int], machine: Path
) -> None:
    folder = machine / "cgroup" / group
    folder.mkdir(exist_ok=True)
    (folder / "cpu.max").write_text(limit)
    assert cores.usable() == expected


@pytest.mark.parametrize(
    ("group", "quota", "expected"),
    [("c", 250_000, (2, 2)), ("c", -1, (4, 8)), ("", 100_000, (1, 1))],
)
def test_a_quota_of_cgroup_v1(
    group: str, quota: int, expected: tuple[int, int], machine: Path
) -> None:
    (machine / "group").write_text("12:cpuset:/c\n4:cpu,cpuacct:/c\n0::/a\n")
    folder = machine / "cgroup" / "cpu" / group
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    # What cpuset may say of a quota is not the processor's.
    (machine / "cgroup" / "cpuset" / "c").mkdir(parents=True)
    assert cores.usable() == expected


def test_elsewhere_than_on_linux(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(cores, "SIBLINGS", "/nowhere/{}")
    monkeypatch.setattr(cores, "GROUP_OF_PROCESS", Path("/nowhere"))
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
    assert cores.usable() == (4, 8)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else None)
    assert cores.usable() == (8, 8)
