"""What the stored results of every subject but a run's share: one machine, and a folder."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pandas as pd

from .columns import Slug
from .files import file_stem, load_model, store_model
from .schema import StoredFile


class StoredResult(StoredFile):
    """A result of one machine."""

    machine: Slug

    @classmethod
    def of(cls, commit_info: Mapping[str, Any], **fields: Any) -> Self:
        """Return a result of this moment and of pytest-benchmark's `commit_info`."""
        commit = {name: commit_info[name] for name in ("id", "dirty")}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls.model_validate({"schema": 2, "datetime": now, "commit_info": commit} | fields)

    @property
    def key(self) -> tuple[str | int, ...]:
        """What it is the newest of: its machine first, and whatever it has besides."""
        return (self.machine,)

    @property
    def name(self) -> str:
        """How the names of its figures begin."""
        return "-".join(map(str, self.key))

    def source(self) -> pd.DataFrame:
        """Return where it comes from, as the footer of a figure takes it."""
        commit = self.commit_info
        row = {"machine": self.machine, "commit": commit.id, "dirty": commit.dirty}
        threads = {"threads": self.threads} if self.threads else {}
        return pd.DataFrame([row | {"run": self.datetime} | threads])

    def store(self, out: Path, *suffix: str) -> Path:
        """Write it to the folder of its machine and return where; an earlier state is replaced."""
        name = f"{file_stem(self.commit_info.id, self.datetime, *suffix)}.json"
        return store_model(out / self.machine / name, self.model_dump(by_alias=True), type(self))

    @classmethod
    def latest(cls, folder: Path) -> list[Self]:
        """Return the newest of each key below a folder, sorted by it."""
        stored = [load_model(path, cls) for path in sorted(folder.rglob("*.json"))]
        stored.sort(key=lambda one: one.datetime)
        newest = {one.key: one for one in stored}
        return [newest[key] for key in sorted(newest)]
