"""The numbers of a problem: the same from a seed, however many are drawn at once."""

import pytest
import torch

from mlr import Case, Problem
from mlr import case as cases

CASE = Case("step", "cpu", "float64", 100, 6, 3)


def test_many_numbers_are_drawn_in_blocks_of_which_no_two_are_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = Problem(CASE).x.flatten()
    monkeypatch.setattr(cases, "DRAWN_AT_ONCE", 64)
    blocks = Problem(CASE).x.flatten().split(64)
    assert blocks[0].equal(whole[:64])  # as where one block is enough
    assert len({tuple(block.tolist()) for block in blocks}) == len(blocks) == 10
    assert len(torch.cat(blocks).unique()) == 600
    assert Problem(CASE).x.flatten().equal(torch.cat(blocks))
    other = Problem(CASE)
    other.seed = 1
    assert not set(other.x.flatten().tolist()) & set(torch.cat(blocks).tolist())
    assert not set(other.y.flatten().tolist()) & set(torch.cat(blocks).tolist())
