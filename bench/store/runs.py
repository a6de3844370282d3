"""Run file -> one tidy frame: read, check and write stored runs.

A run is one JSON file that is written once and never edited. Needs neither torch nor mlr.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import ValidationError
from pydantic_core import from_json

from ..common.errors import UserError
from ..common.garbage import gc_paused
from .schema import SCHEMA, Benchmark, Head, Run

_Head = TypeVar("_Head", bound=Head)
_TEXT = (
    *("run", "datetime", "commit", "machine", "fullname", "case", "stage", "kernel"),
    *("baseline", "device", "dtype", "role", "status", "reason", "suspicions"),
)
_SIZES = ("batch", "in_features", "out_features")
# The frame's column -> pytest-benchmark's name of it.
_STATS = {
    **{f"{name}_s": name for name in ("median", "q1", "q3", "min", "mean", "stddev")},
    **{name: name for name in ("rounds", "iterations")},
}
_EXTRA = ("max_rel_error", "speedup", "speedup_low", "speedup_high", "passes", "peak_bytes")
_PLANNED = ("predicted_peak_bytes", "flops", "bytes_moved")
_LIMITS = ("floor_s", "efficiency")
_LATER = (
    *("contended_passes", "outside_torch_bytes"),
    *("device_hot_s", "device_cold_s", "launch_gap_s", "first_call_s"),
)
COLUMNS = (
    *("run", "datetime", "commit", "dirty", "machine", "fullname", "case", "stage", "kernel"),
    *("baseline", "device", "dtype", *_SIZES, "role", "status", "reason"),
    *(*_STATS, *_EXTRA, *_PLANNED, *_LIMITS, *_LATER, "suspicions"),
)

_OUTCOME = (
    *("fullname", "stage", "kernel", "baseline", "device", "dtype", "role", "status", "reason"),
    *(*_SIZES, *_PLANNED),
)
_EXTRAS = (*_EXTRA, *_LIMITS, *_LATER)
_of_outcome, _of_extra = attrgetter(*_OUTCOME), attrgetter(*_EXTRAS)
_of_stats = attrgetter(*_STATS.values())
# The columns in the order in which a row is put together.
_BUILT = (
    *("run", "datetime", "commit", "dirty", "machine", "case"),
    *(*_OUTCOME, *_STATS, *_EXTRAS, "suspicions"),
)


def plain(value: object, limit: int = 200) -> str:
    r"""Return a text on one line: control characters as escapes, the middle of a long one cut.

    >>> plain("a\nb")
    'a\\nb'
    """
    text = str(value)
    if len(text) > limit:
        text = f"{text[: limit // 2]}…{text[len(text) - limit // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class StoredError(UserError):
    """There is a file of this name already."""


def load_run(path: Path) -> Run:
    """Read one run file.

    Raises:
        UserError: It is missing, unreadable, damaged, foreign, of another schema, or invalid.
    """
    path = Path(path)
    with gc_paused():  # what is read has no cycles; looking for them took half of the time
        return _validated(Run, _document(_parse, path), path)


def load_head(path: Path) -> Head:
    """Read when, where and how a run was measured: quicker by far than `load_run`.

    Its cases are neither kept nor checked; a file that is no run at all is refused all the same.

    Raises:
        UserError: It is missing, unreadable, damaged, foreign, of another schema, or invalid.
    """
    path = Path(path)
    document = _document(lambda text: from_json(text, allow_inf_nan=False), path)
    names = {field.alias or name for name, field in Head.model_fields.items()}
    known = {name: value for name, value in document.items() if name in names}
    return _validated(Head, known, path)


def load_heads(paths: Iterable[Path]) -> dict[Path, Head]:
    """Return when, where and how each run was measured, see `load_head`.

    Raises:
        UserError: One of them cannot be read.
    """
    return {path: load_head(path) for path in map(Path, paths)}


def write_run(path: Path, run: Run | Mapping[str, Any]) -> Path:
    """Write a run as a new file, all of it or nothing.

    Raises:
        UserError: The run is invalid, the file exists already, or it cannot be written.
    """
    path = Path(path)
    text = _serialised(run, path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _put(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        _remove(temporary)
    return path


def _put(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)  # which, other than a rename, never takes the place of a file
    except FileExistsError as error:
        raise StoredError(
            f"a stored run is never edited: {plain(path)} exists; give another name"
        ) from error


def load_frame(paths: Iterable[Path]) -> pd.DataFrame:
    """Return one row per planned case of the runs; measured columns are NaN unless it is ok.

    Raises:
        UserError: A file cannot be read (see `load_run`), or two runs share machine and name.
    """
    return _framed((path, load_run(path)) for path in dict.fromkeys(map(Path, paths)))


def runs_frame(runs: Mapping[Path, Run]) -> pd.DataFrame:
    """Return the tidy frame of runs that were read already, in their order.

    Raises:
        UserError: Two runs share machine and file name, so that nothing would tell them apart.
    """
    return _framed((Path(path), run) for path, run in runs.items())


def _framed(runs: Iterable[tuple[Path, Run]]) -> pd.DataFrame:
    # Of many runs one is held at a time: its rows need a twentieth of its memory.
    seen: dict[tuple[str, str], Path] = {}
    parts = [_typed([])]
    for path, run in runs:
        other = seen.setdefault((run.machine.slug, path.stem), path)
        if other != path:
            raise UserError(
                f"runs of one machine need different file names: {plain(other)} and "
                f"{plain(path)} share one; give one of them"
            )
        parts.append(_typed(_rows(run, path.stem)))
    # A copy has columns of one type in one block, and rows are taken out of it far quicker.
    return pd.concat(parts[1:] or parts, ignore_index=True).copy()


def _typed(rows: Iterable[tuple[object, ...]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=list(_BUILT), dtype=object)[list(COLUMNS)]
    kinds: dict[str, Any] = dict.fromkeys(COLUMNS, "float64")
    kinds |= dict.fromkeys(_TEXT, "object") | dict.fromkeys(_SIZES, "int64") | {"dirty": "bool"}
    return frame.astype(kinds)


def find_runs(folder: Path) -> list[Path]:
    """Return every run file below a folder, sorted by path.

    Raises:
        UserError: The folder is missing or cannot be read.
    """
    folder = Path(folder)

    def refuse(error: OSError) -> None:
        raise UserError(
            f"stored runs are read from a folder: {plain(folder)} cannot be listed "
            f"({_why(error)}); give the folder of the runs"
        ) from error

    found = [
        Path(root) / name
        for root, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if name.endswith(".json") and not name.startswith(".")
    ]
    return sorted(found)


def pace(folder: Path, machine: str) -> float | None:
    """Return the seconds of a case and pass in the newest run of a machine; None where none says.

    An examination counts as a pass.

    Raises:
        UserError: The folder or one of its run files cannot be read.
    """
    own = folder / machine
    heads = load_heads(find_runs(own) if own.is_dir() else [])
    for path in sorted(heads, key=lambda path: moment(heads[path].datetime), reverse=True):
        run = load_run(path)
        if run.cost is not None and run.benchmarks:
            return run.cost.wall_s / sum(1 + len(one.takes) for one in run.benchmarks)
    return None


def moment(text: str) -> datetime:
    """Read a date; one without a time zone is taken as UTC."""
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(
            f"a run file must exist: there is none at {plain(path)}; check the path, or measure "
            "with `python -m bench run`"
        ) from error
    except (OSError, ValueError) as error:  # UnicodeDecodeError; a NUL byte in the path
        raise UserError(
            f"a run file must be readable UTF-8 text: {plain(path)} is not ({_why(error)}); "
            "check its rights or give another file"
        ) from error


def _document(parse: Callable[[str], object], path: Path) -> dict[str, Any]:
    return _checked(parse, _read(path), path)


def _checked(parse: Callable[[str], object], text: str, path: Path) -> dict[str, Any]:
    try:
        document = parse(text)
    except _ContentError as error:
        raise _invalid(path, str(error)) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"a run file must be JSON: {plain(path)} is truncated or damaged ({_why(error)}); "
            "restore it, or delete it and measure again"
        ) from error
    if not isinstance(document, dict) or "schema" not in document:
        known = isinstance(document, dict) and "benchmarks" in document
        what = "a plain pytest-benchmark file" if known else "some other JSON"
        raise UserError(
            f"a run file must carry `schema`: {plain(path)} is {what}, not a run of this suite; "
            "measure one with `python -m bench run`"
        )
    _check_version(document["schema"], path)
    return document


def _parse(text: str) -> object:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)


class _ContentError(ValueError):
    """Well-formed JSON with content that no run may have."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _ContentError(f"the key {plain(repr(twice), 60)} comes twice in one object")
    return document


def _refuse(constant: str) -> float:
    raise _ContentError(f"{constant} is not a number that was measured")


def _finite(text: str) -> float:
    value = float(text)
    return value if abs(value) != float("inf") else _refuse(plain(text, 60))


def _check_version(version: object, path: Path) -> None:
    if type(version) is not int:
        raise _invalid(path, f"schema must be an integer, {plain(repr(version), 60)} came")
    if version > SCHEMA:
        raise UserError(
            f"this code reads schema {SCHEMA}: {plain(path)} has the newer schema "
            f"{plain(version, 60)}; update the checkout"
        )
    if version < SCHEMA:
        raise UserError(
            f"this code reads schema {SCHEMA}: {plain(path)} has the older schema "
            f"{plain(version, 60)}; measure again, or read it with the commit that wrote it"
        )


def _validated(model: type[_Head], document: dict[str, Any], path: Path) -> _Head:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        shown = ""
        if not isinstance(first["input"], (dict, list, Run)) and first["loc"]:
            shown = f", {plain(repr(first['input']), 60)} came"
        rule = first["msg"].removeprefix("Value error, ")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise _invalid(path, f"{plain(where, 100)}: {plain(rule, 300)}{shown}{more}") from error


def _invalid(path: Path, what: str) -> UserError:
    return UserError(
        f"a run file must keep to schema {SCHEMA}: {plain(path)}: {what}; restore the file, or "
        "delete it and measure again"
    )


def _why(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return plain(reason or error or type(error).__name__, 120)


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"a run is stored whole: {plain(path)} cannot be written ({_why(error)}); nothing is "
        "left there; free space or give another folder"
    )


def _remove(path: Path) -> None:
    # The failure that led here is the one to tell, not that of tidying up after it.
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _serialised(run: Run | Mapping[str, Any], path: Path) -> str:
    document = run.model_dump(by_alias=True) if isinstance(run, Run) else run
    try:
        text = json.dumps(document, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _invalid(path, plain(error)) from error
    # What is checked is what will be read back.
    _validated(Run, _checked(_parse, text, path), path)
    return text + "\n"


def _rows(run: Run, name: str) -> Iterator[tuple[object, ...]]:
    """Yield what each planned case has in the columns of `_BUILT`."""
    commit = run.commit_info
    shared = (name, run.datetime, commit.id, commit.dirty, run.machine.slug)
    measured = {benchmark.fullname: benchmark for benchmark in run.benchmarks}
    nothing = (None,) * (len(_STATS) + len(_EXTRAS) + 1)
    for outcome in run.outcomes:
        size = f"{outcome.batch}x{outcome.in_features}x{outcome.out_features}"
        benchmark = measured.get(outcome.fullname)
        numbers = nothing if benchmark is None else _measured(benchmark)
        yield (*shared, size, *_of_outcome(outcome), *numbers)


def _measured(benchmark: Benchmark) -> tuple[object, ...]:
    doubts = "; ".join(benchmark.extra_info.suspicions) or None
    return (*_of_stats(benchmark.stats), *_of_extra(benchmark.extra_info), doubts)
