"""Stored results other than runs: one JSON file each, checked by its model, written whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from ..common.errors import UserError
from .files import write_whole
from .runs import plain

MOST_BYTES = 2_000_000
_Record = TypeVar("_Record", bound=BaseModel)


class _Dated(Protocol):
    @property
    def datetime(self) -> str: ...


_DatedRecord = TypeVar("_DatedRecord", bound=_Dated)


def load_record(path: Path, model: type[_Record], takes: str, is_what: str) -> _Record:
    """Read a stored result.

    Args:
        path: Its file.
        model: What it must hold.
        takes: How the rule on its size begins: `fit curves take`.
        is_what: What it is: ``fit curves are what `python -m bench curves` writes``.

    Raises:
        UserError: The file cannot be read, or holds something else.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(
                f"{takes} at most {MOST_BYTES:,} bytes; {plain(path)} has more; remove it"
            )
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.errors()[0] if isinstance(error, ValidationError) else None
        said = f"{'.'.join(map(str, why['loc']))}: {why['msg']}" if why else str(error)
        raise UserError(f"{is_what}; {plain(path)} is not: {plain(said)}; remove it") from error


def newest(
    records: Iterable[_DatedRecord], kind: Callable[[_DatedRecord], tuple[Any, ...]]
) -> list[_DatedRecord]:
    """Return the newest record of each kind, sorted by kind."""
    found = {kind(one): one for one in sorted(records, key=lambda one: one.datetime)}
    return [found[key] for key in sorted(found)]


def store_record(path: Path, found: Mapping[str, Any], what: str) -> Path:
    """Write a result, all of it or nothing, in the place of the one before.

    Args:
        path: Its file.
        found: What it holds.
        what: What such results are called: `fit curves`.

    Raises:
        UserError: It cannot be written.
    """
    try:
        write_whole(path, json.dumps(found, indent=1) + "\n")
    except OSError as error:
        raise UserError(
            f"{what} need a folder that can be written; {path}: {error.strerror}; give --out"
        ) from error
    return path
