"""A budget that ended before a gate's cases were decided -> what it lacked, and which to try."""

from __future__ import annotations

from collections.abc import Sequence

from ..common.units import as_duration, counted, format_time
from .sequential import LEAST_TO_FAIL, LEAST_TO_PASS, most_blocks


def too_short(budget_s: float, reached_s: Sequence[float], *, thorough: bool) -> str:
    """Say how many blocks a verdict takes, how long each took, and which budget allows for them.

    The budget to try suffices for the first look at what may be slower, or, where that was had, for
    the last. Before the first block, each is taken to last as long as the examination.

    Args:
        budget_s: What was allowed.
        reached_s: Seconds from the start to the end of the examination and of each block after it.
        thorough: Whether more blocks were to be taken for what stays undecided.
    """
    count = len(reached_s) - 1
    examined_s = reached_s[0]
    block_s = (reached_s[-1] - examined_s) / count if count else examined_s
    ended = (
        f"after {counted(count, 'block')}, of {format_time(block_s)} each"
        if count
        else f"before the first block: the examination took {format_time(examined_s)}"
    )
    first, last = most_blocks(thorough=thorough)
    enough = next((blocks for blocks in (first, last) if blocks > count), 2 * count)
    return (
        f"The budget of {budget_s:g} s ended {ended}. A case takes at least {LEAST_TO_PASS} blocks "
        f"to pass, at least {LEAST_TO_FAIL} to be found slower, and at most {last}: try --budget "
        f"{as_duration(examined_s + enough * block_s)}."
    )
