"""Stored results other than runs, by the names that they were read and written under so far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from ..common.errors import UserError
from .files import atomic_write, load_model
from .files import latest as newest

__all__ = ["load_record", "newest", "store_record"]
_Record = TypeVar("_Record", bound=BaseModel)


def load_record(path: Path, model: type[_Record], takes: str, is_what: str) -> _Record:
    """Read a stored result, see `load_model`."""
    try:
        return load_model(path, model, f"what holds {takes.rpartition(' ')[0]}")
    except UserError as error:
        raise UserError(f"{is_what}; {error}") from error


def store_record(path: Path, found: Mapping[str, Any], what: str) -> Path:
    """Write a result, all of it or nothing, in the place of the one before."""
    try:
        atomic_write(path, json.dumps(found, indent=1) + "\n")
    except OSError as error:
        raise UserError(
            f"{what} need a folder that can be written; {path}: {error.strerror}; give --out"
        ) from error
    return path
