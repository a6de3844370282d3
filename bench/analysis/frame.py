"""Frame -> frame: what a table or figure shows, in its order; flagged and missing results.

Times are seconds and sizes bytes; runs, and so machines, are never pooled.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd

from ..common.units import counted

FACET = ["machine", "run", "operation", "device", "dtype", "threads"]
SIZE = ["axes", "case"]  # the sizes of a case, and of what
CASE = [*FACET, *SIZE]
AUTO, PEER = "auto", "peer"  # roles of kernels, beside `kernel`
FITTED, NO_REGIME, UNKNOWN = "fitted", "no asymptotic regime", "unknown"  # states of an exponent


class Facet(NamedTuple):
    """What one table or figure shows: nothing is compared across two of these."""

    machine: str
    run: str
    operation: str
    device: str
    dtype: str
    threads: int

    @property
    def title(self) -> str:
        """It in words, where what is around says of which run it is and of how many threads."""
        return f"{self.operation.replace('_', ' ').capitalize()} on {self.device} in {self.dtype}"

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return this slice's rows of a frame."""
        return frame[frame[FACET].eq(list(self)).all(axis=1)]


def facets(frame: pd.DataFrame) -> list[Facet]:
    """Return the slices by machine, run, operation as the frame has them first, and the rest."""
    rank = {operation: place for place, operation in enumerate(frame["operation"].unique())}
    found = {Facet(*row) for row in frame[FACET].itertuples(index=False)}
    return sorted(found, key=lambda part: (*part[:2], rank[part.operation], *part[2:]))


def axes_of(rows: pd.DataFrame) -> list[str]:
    """Return the axes of a slice, which is of one operation, in the operation's order."""
    return str(rows["axes"].iloc[0]).split(", ") if len(rows) else []


def sizes_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the sizes of the cases of a slice, a column for each of its axes."""
    found = [_numbers(case) for case in rows["case"]]
    return pd.DataFrame(found, rows.index, axes_of(rows), dtype="int64")


def _numbers(case: str) -> tuple[int, ...]:
    return tuple(map(int, case.split("x"))) if case else ()


def by_size(values: pd.Series) -> pd.Series:
    """Let `sort_values` order cases by their sizes, the first axis first: its `key`."""
    if values.name != "case":
        return values
    return values.map({case: place for place, case in enumerate(sorted(set(values), key=_numbers))})


def calls(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the cases of single calls.

    A whole training is many, whose roofline bound is that of their products alone: no ranking has
    it.
    """
    return frame[~frame["iterative"].fillna(False).astype(bool)]


def operations_of(frame: pd.DataFrame) -> list[str]:
    """Return the operations, those of single calls first, and first those with many results.

    That is by the order of magnitude of their number, and then by name.
    """
    counts, single = frame["operation"].value_counts().to_dict(), {*calls(frame)["operation"]}
    return sorted(
        map(str, counts), key=lambda name: (name not in single, -len(str(counts[name])), name)
    )


def leads(frame: pd.DataFrame) -> pd.Series:
    """Say of each row whether its run is the one that stands for its size.

    It is that with the most measured kernels there, of equals the newest: a size has one run, and
    no two are pooled.
    """
    keys = [*(name for name in FACET if name != "run"), *SIZE]
    runs = frame.assign(measured=frame["status"] == "ok").groupby([*keys, "run"], as_index=False)
    counts = runs.agg(measured=("measured", "sum"), datetime=("datetime", "first"))
    best = counts.sort_values(["measured", "datetime", "run"]).drop_duplicates(keys, keep="last")
    joined = frame[[*keys, "run"]].merge(best, on=[*keys, "run"], how="left")
    return joined["measured"].notna().set_axis(frame.index)


def cold(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the cases timed with inputs from memory, those numbers in the place of the others."""
    rows = frame[frame["cold_s"].notna()]
    own = rows["speedup_cold"].where(rows["kernel"] != rows["baseline"], 1.0)
    return rows.assign(
        median_s=rows["cold_s"],
        speedup=own,
        speedup_low=rows["speedup_cold_low"],
        speedup_high=rows["speedup_cold_high"],
        efficiency=rows["efficiency_cold"],
    )


def threads_of(rows: pd.DataFrame) -> str:
    """Say how many threads the rows of a slice have: `2 threads`."""
    return counted(int(rows["threads"].iloc[0]), "thread")


def lead(
    frame: pd.DataFrame, operation: str, when: Callable[[pd.DataFrame], bool] = lambda rows: True
) -> Facet | None:
    """Return the slice of an operation that says the most, or None.

    That is one with cold times, then with the most measured cases, then in float64.
    """
    rows = frame[frame["operation"] == operation]
    slices = {part: part.of(rows) for part in facets(rows)}
    says = {
        part: (some["cold_s"].notna().any(), some["status"].eq("ok").sum(), part.dtype == "float64")
        for part, some in slices.items()
        if when(some)
    }
    return max(says, key=lambda part: says[part], default=None)


def in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of slices: cases from small to large, in each the fastest first.

    The fastest has the highest paired speedup: times taken apart are no ranking. Adds `flagged`.
    """
    keys = [*FACET, "case", "speedup", "median_s", "status", "kernel"]
    upwards = [key != "speedup" for key in keys]
    ordered = rows.sort_values(keys, ascending=upwards, ignore_index=True, key=by_size)
    return ordered.assign(flagged=is_flagged(ordered))


def is_flagged(rows: pd.DataFrame) -> pd.Series:
    """Say of each row whether it has a warning, or memory outside torch's allocator."""
    return rows["warnings"].notna() | rows["untracked_bytes"].gt(0)


def may_win(rows: pd.DataFrame) -> pd.Series:
    """Say of each row whether it may win or enter a mean: measured and without a warning.

    `auto` may not: it is one of the others.
    """
    return (rows["status"] == "ok") & (rows["role"] != AUTO) & ~is_flagged(rows)


def flagged_results(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the measured cases with a warning, and what it says."""
    rows = frame[(frame["status"] == "ok") & is_flagged(frame)]
    rows = rows.assign(warnings=rows["warnings"].fillna("memory taken outside torch"))
    return rows.sort_values([*FACET, "case", "kernel"], ignore_index=True, key=by_size)


def missing_results(frame: pd.DataFrame) -> pd.DataFrame:
    """Return every planned case without a result, with its status and reason."""
    rows = frame[frame["status"] != "ok"]
    rows = rows.assign(reason=rows["reason"].fillna("no reason was recorded"))
    return rows.sort_values([*FACET, "status", "case", "kernel"], ignore_index=True, key=by_size)


def longest_line(rows: pd.DataFrame, axis: str, keys: Sequence[str] = ()) -> pd.DataFrame:
    """Return, of a slice or of each group of it, the cases along one axis at fixed other sizes.

    These are the ones with the most different sizes, then the most measured cases, then the
    largest.
    """
    sizes = sizes_of(rows)
    held = ["x".join(map(str, one)) for one in sizes.drop(columns=axis).to_numpy()]
    told = rows[[*keys]].assign(case=held, size=sizes[axis], ok=rows["status"] == "ok")
    lines = told.groupby([*keys, "case"], as_index=False)
    found = lines.agg(along=("size", "nunique"), measured=("ok", "sum"))
    ranked = found.sort_values(["along", "measured", "case"], key=by_size)
    best = ranked.drop_duplicates(keys, keep="last") if keys else ranked.tail(1)
    chosen = told.merge(best[[*keys, "case"]].assign(best=True), how="left")["best"].notna()
    return rows[chosen.to_numpy()]
