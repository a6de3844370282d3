"""The journal of a run: one JSON line an event, on disk as soon as it is known.

plan     the cases to measure and in how many passes, first of all
session  where and how a measuring process runs
start    a case begins in a pass; pass 0 examines, the others time
done     a case ended in a pass, with its outcome and what was timed
lost     its process was killed from outside; the case begins anew
resume   another runner goes on; a case that had begun then begins anew
end      the runner has nothing left to measure

Each event carries `at`, the seconds of the system's clock.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_benchmark.utils import safe_dumps

JOURNAL_LOST = 3  # the exit status of a child that can no longer write down what it measures


class Journal:
    """Append events to a file, and read on from where reading had got to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def append(self, event: str, **content: Any) -> None:
        """Write one event and see it to the disk, whole or not at all.

        Raises:
            OSError: It cannot be written; the journal is as it was.
        """
        line = safe_dumps({"event": event, "at": time.time(), **content}) + "\n"
        # Unbuffered: what a buffer could not write it would try again when it is closed, and after
        # the cut that may succeed for the end of the line.
        with self.path.open("ab", buffering=0) as file:
            before, left = file.tell(), memoryview(line.encode())
            try:
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self.path, before)
                raise

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
