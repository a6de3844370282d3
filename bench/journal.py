"""The journal of a run: one JSON line an event, on disk as soon as it is known.

plan     the cases to measure, first of all
session  where and how a measuring process runs
start    a case begins
done     a case ended, with its outcome and its benchmark
resume   another runner goes on; a case that had begun then begins anew
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_benchmark.utils import safe_dumps


class Journal:
    """Append events to a file, and read on from where reading had got to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def append(self, event: str, **content: Any) -> None:
        """Write one event and see it to the disk."""
        line = safe_dumps({"event": event, **content}) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def new_events(self) -> Iterator[dict[str, Any]]:
        """Yield the events not yet read; a line that is not wholly written is left for later."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                yield json.loads(line)

    def drop_torn_end(self) -> None:
        """Cut off a last line that a kill left unfinished, so that the next starts on its own."""
        text = self.path.read_bytes()
        os.truncate(self.path, text.rfind(b"\n") + 1)
