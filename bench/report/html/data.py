"""Cases, runs and histories -> what the charts of the page draw, as JSON.

Beside each number is its text, written as in the tables: the script writes no number of a case.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ...analysis.compare import History
from ...analysis.frame import AUTO, cold, in_order, leads, may_win
from ...analysis.ranking import with_intervals
from ...common import units
from ...common.errors import single_line
from ...store.columns import SIZES, letters
from ...store.runs import axes_in
from ...store.schema import Run
from .. import tables
from ..figures.roofline import points, roofs
from ..style import styles

_NAMES = ("machine", "run", "operation", "device", "dtype", "kernel", "role", "status", "bound")
_COUNTS = ("threads", "processes")
_NUMBERS = (
    *("median_s", "q1_s", "q3_s", "speedup", "low", "high"),
    *("cold_s", "speedup_cold", "cold_low", "cold_high", "roofline_s", "roofline_cold_s"),
    *("peak_bytes", "predicted_peak_bytes", "max_rel_error", "first_call_s", "intensity", "rate"),
)
_WRITTEN = {
    **{"time": tables.TIME, "ratio": tables.SPEEDUP, "ratio_cold": tables.SPEEDUP_COLD},
    **{"efficient": tables.EFFICIENCY, "predicted": tables.PREDICTED},
    "time_cold": tables.Column("", "cold_s", units.format_time),
    "peak": tables.Column("", "peak_bytes", units.format_bytes),
    "error": tables.Column("", ("max_rel_error", "tolerance_of"), tables.format_error_of),
    "size": tables.SIZE,
    "first_call": tables.Column("", "first_call_s", units.format_time),
}
_LONGEST = 4_000  # characters of what a run says of a kernel


def page_data(
    frame: pd.DataFrame, runs: Mapping[Path, Run], histories: Iterable[History]
) -> dict[str, Any]:
    """Return what is drawn, as JSON knows it."""
    axes = list(map(str, frame["axes"].unique()))
    return {
        "cases": _cases(frame, axes),
        "axes": [list(letters(names.split(", ")).values()) for names in axes],
        "shapes": [_but_first(names) for names in axes],
        "runs": [_run(frame, path.stem, run) for path, run in runs.items()],
        "history": _history(histories),
        "looks": {
            single_line(name): {
                single_line(kernel, 300): place
                for place, kernel in enumerate(_kernels(frame, name), start=-1)
            }
            for name in frame["operation"].unique()
        },
    }


def _shape(case: str, axes: str) -> str:
    """Write the sizes along all axes but the first."""
    return tables.format_shape([int(size) for size in case.split("x")[1:]], axes.split(", ")[1:])


def as_script(data: object) -> str:
    """Return JSON that can stand in a script element, whatever texts it holds."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def remarks(rows: pd.DataFrame) -> pd.Series:
    """Return why a case has no result, what its warnings are, and in how many processes it was off.

    A disturbed process is one in which something else used the machine.
    """
    found = []
    for reason, warning, count in rows[["reason", "warnings", "contended_processes"]].to_numpy():
        said = [next((one for one in (reason, warning) if isinstance(one, str)), "")]
        said += [f"disturbed in {units.counted(int(count), 'process')}"] if count > 0 else []
        found.append("; ".join(filter(None, said)) or None)
    return pd.Series(found, index=rows.index, dtype=object)


def _kernels(frame: pd.DataFrame, operation: str) -> list[str]:
    """Return the kernels of an operation in the order of their looks, the baseline first."""
    names = list(styles(frame, operation))
    baselines = set(frame.loc[frame["operation"] == operation, "baseline"])
    return names if baselines & set(names) else ["", *names]


def _but_first(axes: str) -> str:
    """Name all axes but the first, as the sizes along them are written."""
    names = axes.split(", ")
    between = " → " if tuple(names[1:]) == SIZES[1:] else " × "
    return between.join([*letters(names).values()][1:])


def _cases(frame: pd.DataFrame, axes: Sequence[str]) -> dict[str, list[Any]]:
    # Without a column for each axis, which might be called as one of those that are added.
    rows = in_order(frame).drop(columns=axes_in(frame))
    ends = with_intervals(rows)[["low", "high"]]
    from_memory = with_intervals(cold(rows))
    rows = rows.join(points(rows)[["intensity", "rate"]]).assign(
        **ends,
        speedup_cold=from_memory["speedup"],
        cold_low=from_memory["low"],
        cold_high=from_memory["high"],
    )
    found = {
        "leads": leads(rows).to_list(),
        "wins": (may_win(rows) & (rows["role"] != AUTO)).to_list(),
        "flagged": rows["flagged"].to_list(),
        "remark": _texts(remarks(rows)),
        "axes": [axes.index(names) for names in rows["axes"]],
        "shape": [
            _shape(case, names) for case, names in zip(rows["case"], rows["axes"], strict=True)
        ],
        "sizes": [list(map(int, case.split("x"))) for case in rows["case"]],
    }
    found |= {name: _texts(rows[name]) for name in _NAMES}
    for name in (*_COUNTS, *_NUMBERS):
        digits = 17 if name in _COUNTS else 6
        found[name] = [None if pd.isna(one) else float(f"{one:.{digits}g}") for one in rows[name]]
    for name, column in _WRITTEN.items():
        found[name] = [single_line(text, 300) for text in column.write(rows)]
    return found


def _texts(values: pd.Series) -> list[str | None]:
    return [single_line(one, 300) if isinstance(one, str) else None for one in values]


def _run(frame: pd.DataFrame, name: str, run: Run) -> dict[str, Any]:
    own = frame[(frame["run"] == name) & (frame["machine"] == run.machine.slug)]
    ceilings = []
    for device, threads in own[["device", "threads"]].drop_duplicates().itertuples(index=False):
        reached = run.machine.ceilings_of(device, threads)
        rates = [
            (rate, f"{units.digits(rate / 1e9)} GB/s over {units.format_bytes(size)}")
            for size, rate in roofs(reached).items()
        ]
        peaks = {
            single_line(dtype): (rate, f"{units.digits(rate / 1e9)} GFLOP/s")
            for dtype, rate in reached.flops_per_s.items()
        }
        ceilings.append({"device": single_line(device), "threads": int(threads),
                         "rates": rates, "peaks": peaks})  # fmt: skip
    return {
        **{"machine": single_line(run.machine.slug), "run": single_line(name, 300)},
        "commit": single_line(run.commit_info.id[:10])
        + (" with uncommitted changes" if run.commit_info.dirty else ""),
        **{"day": run.datetime[:10], "ceilings": ceilings, "kernels": _described(run)},
    }


def _described(run: Run) -> dict[str, dict[str, str]]:
    """Return what a run says of its kernels, if it does: `kernels`, as name -> heading -> text."""
    kernels = (run.model_extra or {}).get("kernels")
    return {
        single_line(name, 300): {
            single_line(heading): str(text)[:_LONGEST].encode("utf-8", "replace").decode()
            for heading, text in facts.items()
        }
        for name, facts in (kernels.items() if isinstance(kernels, dict) else ())
        if isinstance(facts, dict)
    }


def _history(histories: Iterable[History]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for one in histories:
        for row in one.points.to_dict("records"):
            change = [row[name] for name in ("change", "change_low", "change_high")]
            known = change[0] == change[0]
            found.append(
                {
                    **{"machine": single_line(one.machine), "grid": single_line(one.grid)},
                    **{name: single_line(row[name], 300) for name in _NAMES[1:6]},
                    "bound": tables.bound_in_words(row["bound"]),
                    **{"threads": int(row["threads"]), "cases": int(row["cases"])},
                    "newest": row["run"] == one.runs[-1],
                    "ratio": units.format_ratio(row["speedup"], row["low"], row["high"]),
                    "change": [float(f"{end:.6g}") for end in change] if known else None,
                    "changed": units.format_ratio(*change),
                }
            )
    return found


def choices(frame: pd.DataFrame, name: str) -> Sequence[str]:
    """Return what the page can choose among, as its script compares it."""
    return list(dict.fromkeys(single_line(value, 300) for value in frame[name]))
