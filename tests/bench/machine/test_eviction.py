"""Eviction from the processor's caches: what is evicted keeps its values, and no page stays."""

import ctypes
import mmap
import sys
from threading import get_ident

import pytest
import torch

from bench.machine import eviction
from bench.machine.eviction import PAGES, evict
from mlr.one_pass.codegen.writer import Argument
from mlr.one_pass.compile import Arguments


def test_what_is_evicted_keeps_its_values() -> None:
    values = torch.arange(100_003, dtype=torch.float32)
    expected = values.clone()
    evict([values, values[1:7]])
    assert torch.equal(values, expected)


def test_every_thread_reads_more_pages_than_a_tlb_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each core has a TLB of its own, in which it would find the inputs of a kernel in threads."""
    read: list[tuple[int, int]] = []

    def read_pages(address: int) -> None:
        arguments = Arguments.from_address(address)
        first, size = arguments[Argument.X], arguments[Argument.ROWS]
        ctypes.string_at(first + size - 1, 1)  # it is memory of this process
        read.append((get_ident(), size // mmap.PAGESIZE))

    monkeypatch.setattr(eviction, "_read_pages", lambda: read_pages)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    evict([torch.ones(100)])
    assert [count for _, count in read] == [PAGES] * 3
    assert len({thread for thread, _ in read}) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells which pages were touched")
def test_one_number_of_every_page_is_read() -> None:
    count = 300
    memory = mmap.mmap(-1, count * mmap.PAGESIZE)  # shared: a page is there once it is touched
    first, there = ctypes.c_char.from_buffer(memory), (ctypes.c_ubyte * count)()
    place = ctypes.addressof(first)

    def touched() -> int:
        assert ctypes.CDLL(None).mincore(ctypes.c_void_p(place), len(memory), there) == 0
        return sum(there)

    assert touched() == 0
    size = (count - 1) * mmap.PAGESIZE
    arguments = Arguments(place, 0, 0, 0, 0, size, 1, 0)
    eviction._read_pages()(ctypes.addressof(arguments))
    assert touched() == count - 1
