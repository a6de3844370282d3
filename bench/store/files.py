"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside a file to write to, which takes the file's place when all is written.

    The folder is made where it is missing. If what is done inside fails nothing has changed.

    Raises:
        OSError: The folder or the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file, all of it or nothing, in the place of the one before.

    Raises:
        OSError: The folder or the file cannot be written.
    """
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def swap(names: Iterable[str], new: Path, folder: Path, old: Path) -> None:
    """Put files and folders of some names into a folder, in the place of those there.

    Args:
        names: Which; one that `new` has not is only taken away.
        new: Where they are, on the same disk.
        folder: Where they go.
        old: A folder that is made, for what was there.

    Raises:
        OSError: One of them cannot be moved; then all is as it was.
    """
    old.mkdir()
    moved: list[tuple[Path, Path]] = []
    try:
        for name in names:
            for origin, target in ((folder / name, old / name), (new / name, folder / name)):
                if os.path.lexists(origin):
                    os.replace(origin, target)
                    moved.append((origin, target))
    except OSError:
        for origin, target in reversed(moved):
            os.replace(target, origin)
        raise
