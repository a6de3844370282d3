"""What a report opens with: the answers that runs give, a figure of merit and a sentence each.

Answers are of one machine, device and number of threads. Each size counts in one run, see `leads`.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pandas as pd

from ..analysis import ranking
from ..analysis.compare import History, changed
from ..analysis.frame import calls, cold, flagged_results, leads, missing_results
from ..common import units
from ..common.errors import single_line
from .markdown import Markdown, render_blocks
from .subject import Answer, Subject

WHERE = ["machine", "device", "threads"]


class Where(NamedTuple):
    """What answers are of."""

    machine: str
    device: str
    threads: int

    @property
    def title(self) -> str:
        """It in words."""
        threads = units.counted(self.threads, "thread")
        return f"{single_line(self.machine)}, {self.device}, {threads}"

    def of(self, frame: pd.DataFrame) -> pd.Series:
        """Say of each row of a frame whether it is of this."""
        return frame[WHERE].eq(list(self)).all(axis=1)


def groups(frame: pd.DataFrame) -> Iterator[tuple[Where, pd.DataFrame]]:
    """Yield the cases that answers are given of together."""
    every = frame[WHERE].drop_duplicates().sort_values(WHERE)
    for row in every.itertuples(index=False):
        where = Where(*row)
        yield where, frame[where.of(frame)]


def answers(
    rows: pd.DataFrame, moves: pd.DataFrame, others: Iterable[Subject] = ()
) -> list[Answer]:
    """Return the answers of a group of cases, and of what `newest_changes` tells of it.

    What other subjects answer of these cases stands among them.
    """
    ranked = calls(rows)
    ranked = ranked[leads(ranked)]
    relative = ranking.relative_performance(ranked)
    found = [
        *(_fastest(str(name), some, relative[relative["operation"] == name])
          for name, some in ranked.groupby("operation")),
        *(answer for one in others for answer in one.answer(ranked)),
        *_roofline(ranking.roofline_efficiency(relative)),
        _missing(rows),
        *_changes(moves),
    ]  # fmt: skip
    return found


def newest_changes(histories: Iterable[History]) -> pd.DataFrame:
    """Return how each kernel changed in the newest run of each history; a frame with `machine`."""
    columns = ["machine", "device", "threads", "change"]
    parts = [pd.DataFrame(columns=columns)]
    for one in histories:
        points = one.points[one.points["run"] == one.runs[-1]].dropna(subset="change")
        parts.append(points.assign(machine=one.machine))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def span(ratios: pd.Series) -> str:
    """Write from where to where ratios go."""
    low, high = units.format_ratio(ratios.min()), units.format_ratio(ratios.max())
    return low if low == high else f"{low} to {high}"


def say(name: str, **values: Any) -> tuple[Markdown, Markdown]:
    """Return the blocks `said` and `more` of a template, each on one line."""
    blocks = render_blocks(name, **values)
    said, more = (Markdown(" ".join(blocks[part].split())) for part in ("said", "more"))
    return said, more


def _ahead(best: pd.DataFrame) -> pd.Series:
    return best.loc[best["kernel"] != best["baseline"], "speedup"].dropna()


def _fastest(operation: str, rows: pd.DataFrame, relative: pd.DataFrame) -> Answer:
    best = ranking.fastest(rows)
    counts = pd.concat([best["kernel"], best["ties"].explode()]).value_counts().sort_index()
    baselines = rows["baseline"].unique()
    baseline = single_line(baselines[0], 60) if len(baselines) == 1 else "the baseline"
    ratios = ranking.mean_ratios(relative)
    said, more = say(
        "answer_fastest",
        kernel=counts.idxmax() if len(counts) else None,
        at=int(counts.max()) if len(counts) else 0,
        of=len(best),
        cold=_ahead(ranking.fastest(cold(rows))),
        means=dict(list(ratios.groupby("column"))),
        baseline=baseline,
        span=span,
    )
    ahead = _ahead(best)
    figure = span(ahead) if len(ahead) else units.UNKNOWN
    article = "an" if operation[0].lower() in "aeiou" else "a"
    question = f"Which kernel for {article} {single_line(operation)}?"
    return Answer(question, figure, f"as fast as {baseline}", said, more, "which")


def _roofline(efficiency: pd.DataFrame) -> Iterator[Answer]:
    """Yield the median where arithmetic or bandwidth sets the bound, if it does anywhere."""
    ranked = efficiency.assign(calls=efficiency["bound"] == "dispatch")
    first = ranked.sort_values(["calls", "cases"], ascending=[True, False]).head(1)
    for one in first.to_dict("records"):
        said, more = say("answer_roofline", rows=efficiency, one=one)
        figure = units.format_efficiency(one["median"], one["bound"])
        unit = f"of the roofline bound, where {one['bound']} sets it"
        yield Answer("How near to the hardware limit?", figure, unit, said, more, "limit")


def _missing(rows: pd.DataFrame) -> Answer:
    missing, flagged = missing_results(rows), flagged_results(rows)
    often = missing.groupby(["status", "kernel"])["case"].transform("size")
    said, more = say(
        "answer_missing",
        statuses=missing["status"].value_counts().sort_index(),
        example=None if missing.empty else missing.iloc[int(often.argmax())],
        flagged=flagged,
        measured=int(rows["status"].eq("ok").sum()),
    )
    figure = f"{len(missing):,} of {len(rows):,}"
    unit = "planned cases have no result"
    return Answer("What could not run?", figure, unit, said, more, "missing")


def _changes(moves: pd.DataFrame) -> Iterator[Answer]:
    if len(moves):
        moved = changed(moves)
        size = moved["change"].map(lambda ratio: max(ratio, 1 / ratio))
        said, more = say(
            "answer_changes",
            compared=len(moves),
            slower=int((moved["change"] < 1).sum()),
            faster=int((moved["change"] > 1).sum()),
            most=moved.iloc[int(size.argmax())] if len(moved) else None,
        )
        figure = f"{len(moved):,} of {len(moves):,}"
        unit = "speeds changed by more than their interval"
        yield Answer("What changed since the last run?", figure, unit, said, more, "changes")
