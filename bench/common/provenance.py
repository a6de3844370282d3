"""What was measured and when: of a result its commit, time and file name."""

from __future__ import annotations

from collections.abc import Mapping
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
