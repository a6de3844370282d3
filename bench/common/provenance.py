"""What was measured and when: of a result its commit, time and file name; a shard of a plan."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

NO_COMMIT = "nogit"


class Provenance(NamedTuple):
    """The commit of the code that was measured, whether it had been changed since, and the time."""

    commit: str
    dirty: bool
    at: datetime

    @classmethod
    def of(cls, commit_info: Mapping[str, Any], at: datetime | None = None) -> Provenance:
        """Read pytest-benchmark's `commit_info`, which is empty outside of a repository."""
        commit, dirty = commit_info.get("id", NO_COMMIT), commit_info.get("dirty", False)
        return cls(str(commit), bool(dirty), at or datetime.now(UTC))

    def file_stem(self, suffix: str) -> str:
        """Return the name of the result's file, by time and commit: `20261124T050000Z-01234567-x`.

        >>> at = datetime(2026, 11, 24, 5, tzinfo=UTC)
        >>> Provenance("0123456789ab", False, at).file_stem("smoke")
        '20261124T050000Z-01234567-smoke'
        """
        return f"{self.at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{self.commit[:8]}-{suffix}"

    def __str__(self) -> str:
        """Name the commit, and say if the code was not quite that."""
        return f"{self.commit}{' with uncommitted changes' * self.dirty}"


def parse_utc(text: str) -> datetime:
    """Read a date; one without a time zone is taken as UTC."""
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)


class PlanShard(NamedTuple):
    """One of `total` parts of a plan, by its number from 1 on."""

    number: int
    total: int

    @classmethod
    def read(cls, text: str) -> PlanShard:
        """Read a shard as it is written: `2/3`; a ValueError says what is wrong with another."""
        match = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text, re.ASCII)
        if match is None or int(match[1]) > int(match[2]):
            raise ValueError(f"takes i/k with i from 1 to k, say 2/3; got {text[:60]!r}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        """Write it as it is read."""
        return f"{self.number}/{self.total}"

    @property
    def suffix(self) -> str:
        """What the name of its file ends in: `-2of3`."""
        return f"-{self.number}of{self.total}"


def plan_key(names: Iterable[str], grid: str, seed: int) -> str:
    """Return what tells a plan from others."""
    text = "\n".join([grid, str(seed), *names])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
