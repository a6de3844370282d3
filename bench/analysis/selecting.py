"""A filter of the command line -> the rows of a frame that it keeps. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from ..common.errors import UserError
from ..store.runs import plain
from .frame import SIZES

NAMED = ("machine", "run", "stage", "device", "dtype", "kernel", "role", "status")
Keep = Callable[[pd.DataFrame], pd.DataFrame]


def reading(text: str | None) -> Keep:
    """Return the function that keeps what a filter names; everything without a filter.

    A filter is words such as `stage=step kernel=matmul,einsum batch=33,100`: a column, and the
    values of it that are kept. A row is kept that fits all of them.

    Raises:
        UserError: A word is none such, or names no column.
    """
    wanted: dict[str, set[str]] = {}
    for word in (text or "").split():
        name, equals, values = word.partition("=")
        if name not in (*NAMED, *SIZES) or not equals or not values:
            raise UserError(
                "--filter takes words such as stage=step kernel=matmul,einsum batch=33 on the "
                f"columns {', '.join((*NAMED, *SIZES))}; got {plain(word)!r}"
            )
        wanted.setdefault(name, set()).update(filter(None, values.split(",")))

    def keep(frame: pd.DataFrame) -> pd.DataFrame:
        kept = frame
        for name, values in wanted.items():
            kept = kept[kept[name].astype(str).isin(values)]
        if wanted and kept.empty:
            raise UserError(
                f"--filter must leave a case; {plain(text)!r} leaves none of {len(frame):,}; "
                "`report --format csv` writes all of them"
            )
        return kept

    return keep


EVERYTHING = reading(None)
