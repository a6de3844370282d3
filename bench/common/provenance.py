"""When a result was measured, and of which code: the name of its file says both."""

from datetime import UTC, datetime


def file_stem(commit: str, at: datetime, suffix: str) -> str:
    """Return the name of the result's file, by time and commit: `20261124T050000Z-01234567-x`.

    >>> file_stem("0123456789ab", datetime(2026, 11, 24, 5, tzinfo=UTC), "smoke")
    '20261124T050000Z-01234567-smoke'
    """
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{commit[:8]}-{suffix}"


def parse_utc(text: str) -> datetime:
    """Read a date; one without a time zone is taken as UTC."""
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)
