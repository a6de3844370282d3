"""What the stored results of every subject share: the machine, the code and the time, and a folder.

An alias is the name of a field in the file.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from ..common.provenance import Provenance, parse_utc
from .columns import Name, Slug
from .files import load_latest, store_model
from .schema import Commit


class Record(BaseModel):
    """A part of a stored result."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class StoredResult(Record):
    """A result of one machine."""

    what: ClassVar[str]  # how an error calls it: `a scaling run`

    version: Literal[2] = Field(alias="schema")
    datetime: Name
    commit_info: Commit
    machine: Slug
    settings: dict[str, Any]
    packages: dict[str, str]

    @classmethod
    def of(cls, now: Provenance, **fields: Any) -> Self:
        """Return a result of this time and commit."""
        commit = {"id": now.commit, "dirty": now.dirty}
        time = now.at.isoformat(timespec="seconds")
        return cls.model_validate({"schema": 2, "datetime": time, "commit_info": commit} | fields)

    @property
    def key(self) -> tuple[str | int, ...]:
        """What it is the newest of: its machine first, and whatever it has besides."""
        return (self.machine,)

    def source(self) -> pd.DataFrame:
        """Return where it comes from, as the footer of a figure takes it."""
        commit = self.commit_info
        row = {"machine": self.machine, "commit": commit.id, "dirty": commit.dirty}
        return pd.DataFrame([row | {"run": self.datetime}])

    def store(self, out: Path, suffix: str = "") -> Path:
        """Write it to the folder of its machine and return where; an earlier state is replaced."""
        now = Provenance(self.commit_info.id, self.commit_info.dirty, parse_utc(self.datetime))
        path = out / self.machine / f"{now.file_stem(suffix).removesuffix('-')}.json"
        return store_model(path, self, type(self), self.what)

    @classmethod
    def latest(cls, folder: Path) -> list[Self]:
        """Return the newest of each key below a folder, sorted by it."""
        return load_latest(folder, cls, cls.what, lambda one: one.key)
