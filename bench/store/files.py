"""Every stored result: JSON files that are there whole or not at all, each checked by a model.

What cannot be read or written is one line: the rule, what came, what to do.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from ..common.errors import UserError, single_line
from ..common.garbage import gc_paused
from ..common.provenance import commit_info
from .columns import Slug
from .schema import SCHEMA, StoredFile

_Stored = TypeVar("_Stored", bound=StoredFile)
_Line = TypeVar("_Line", bound=BaseModel)


class ExistsError(UserError):
    """There is a file of this name already."""


def load_model(path: Path, model: type[_Stored]) -> _Stored:
    """Read a stored file."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{model.what} must exist and be readable: {single_line(path)} is not "
            f"({_why(error)}); check the path, or give another file"
        ) from error
    return _validated(text, path, model)


def _validated(text: str | bytes, path: Path, model: type[_Stored]) -> _Stored:
    remedy = "restore the file, or remove it and measure again"
    try:
        with gc_paused():  # what is read has no cycles; looking for them took half of the time
            document = json.loads(text, parse_constant=_refuse)
            found = document.get("schema") if isinstance(document, dict) else None
            if found == SCHEMA:
                return model.model_validate(document)
        rule, came = f'have "schema": {SCHEMA}', f" has {single_line(repr(found), 60)}"
        remedy = "give a file of this suite, or read it with the code that wrote it"
    except ValidationError as error:
        rule, came = "keep to its schema", f": {first_error(error)}"
    except (ValueError, RecursionError) as error:
        rule, came = "be well-formed", f" is truncated or damaged ({_why(error)})"
    raise UserError(f"{model.what} must {rule}: {single_line(path)}{came}; {remedy}")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number that was measured")


def _why(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return single_line(reason or error or type(error).__name__, 120)


def first_error(error: ValidationError) -> str:
    """Say in one line what the first mistake is, where it is, and how many more there are."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    shown = ""
    if first["loc"] and not isinstance(first["input"], (dict, list, BaseModel)):
        shown = f", {single_line(repr(first['input']), 60)} came"
    rule = first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    place = f"{single_line(where, 100)}: " if where else ""
    return f"{place}{single_line(rule, 300)}{shown}{more}"


def store_model(
    path: Path, document: dict[str, Any], model: type[StoredFile], exclusive: bool = False
) -> Path:
    """Write a result as it will be read back, all of it or nothing.

    An `exclusive` one is refused with an ExistsError where there is a file of its name.
    """
    text = _as_lines(document)
    _validated(text, path, model)
    with writing(model.what, path):
        try:
            atomic_write(path, text, exclusive=exclusive)
        except FileExistsError as error:
            if not path.exists():  # but a file where a folder is needed
                raise
            said = f"{model.what} is never edited: {single_line(path)} exists; give another name"
            raise ExistsError(said) from error
    return path


def _as_lines(document: dict[str, Any]) -> str:
    """Write JSON with a line for each name at the top, and for each element of a list there."""
    lines = []
    for name, value in document.items():
        inside = [_compact(one) for one in value] if isinstance(value, list) and value else []
        text = "[\n" + ",\n".join(inside) + "\n]" if inside else _compact(value)
        lines.append(f"{_compact(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def file_stem(commit: str, at: str, *suffix: str) -> str:
    """Return the name of a result's file: when it was measured, of which commit, and of what.

    >>> file_stem("0123456789ab", "2026-11-24T05:00:00+00:00", "smoke")
    '20261124T050000Z-01234567-smoke'
    """
    time = f"{datetime.fromisoformat(at).astimezone(UTC):%Y%m%dT%H%M%SZ}"
    return "-".join([time, commit[:8], *suffix])


class StoredResult(StoredFile):
    """A stored result that is no run: of one machine, in its folder."""

    machine: Slug

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Return a result of this moment and of the code as it lies here."""
        here = commit_info()
        commit = {name: here[name] for name in ("id", "dirty")}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        head = {"schema": SCHEMA, "datetime": now, "commit_info": commit}
        return cls.model_validate(head | fields)

    @property
    def key(self) -> tuple[str | int, ...]:
        """What, with its threads, it is the newest of: its machine, and whatever it has besides."""
        return (self.machine,)

    @property
    def name(self) -> str:
        """How the names of its figures begin."""
        many = [f"{self.threads}threads"] if (self.threads or 1) != 1 else []
        return "-".join(map(str, [*self.key, *many]))

    def source(self) -> dict[str, Any]:
        """Return where it comes from: the row of a frame, as the footer of a figure takes it."""
        commit = self.commit_info
        row = {"machine": self.machine, "commit": commit.id, "dirty": commit.dirty}
        threads = {"threads": self.threads} if self.threads else {}
        return row | {"run": self.datetime} | threads

    def store(self, out: Path, *suffix: str) -> Path:
        """Write it to the folder of its machine and return where; an earlier state is replaced."""
        name = f"{file_stem(self.commit_info.id, self.datetime, *suffix)}.json"
        return store_model(out / self.machine / name, self.model_dump(by_alias=True), type(self))

    @classmethod
    def latest(cls, folder: Path) -> list[Self]:
        """Return the newest of each key and number of threads below a folder, sorted by these."""
        # Without the names of `atomic_path`, of what is being written or a kill has left.
        stored = [load_model(path, cls) for path in sorted(folder.rglob("[!.]*.json"))]
        stored.sort(key=lambda one: one.datetime)
        newest = {(one.key, one.threads or 1): one for one in stored}
        return [newest[key] for key in sorted(newest)]


@contextmanager
def writing(
    what: str, place: Path, remedy: str = "free space or choose another with --out"
) -> Iterator[None]:
    """Refuse in one line, as a UserError, a place that cannot be written to inside."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{what} must be writable; {single_line(place)}: {_why(error)}; {remedy}"
        ) from error


def require_writable(what: str, *folders: Path) -> None:
    """Check before anything is measured that its files can be written; the folders are made."""
    for folder in folders:
        with writing(what, folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass


@contextmanager
def atomic_path(path: Path, *, exclusive: bool = False) -> Iterator[Path]:
    """Yield a name beside a file to write to, which takes the file's place when all is written.

    The folder is made where it is missing. If what is done inside fails nothing has changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield unfinished
        # A link, other than a rename, never replaces a file.
        (os.link if exclusive else os.replace)(unfinished, path)
    finally:
        with suppress(OSError):  # the failure that led here is the one to tell
            unfinished.unlink(missing_ok=True)


def atomic_write(path: Path, text: str, *, exclusive: bool = False) -> None:
    """Write a text file and see it to the disk, all of it or nothing."""
    with (
        atomic_path(path, exclusive=exclusive) as unfinished,
        unfinished.open("w", encoding="utf-8") as file,
    ):
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path, model: type[_Line], what: str) -> list[_Line]:
    """Read what `append_line` wrote so far, nothing where there is no file.

    A last line that a kill left unfinished does not count.

    Raises:
        UserError: The file cannot be read, or a line of it does not keep to the model.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [model.model_validate_json(line) for line in lines if line.endswith("\n")]
    except (OSError, ValueError) as error:
        why = first_error(error) if isinstance(error, ValidationError) else error
        raise UserError(f"{what} are one JSON object a line; {path} is not: {why}") from error


def append_line(path: Path, line: str) -> None:
    """Append a line to a file and see it to the disk, whole or not at all.

    What a kill left of a last line is cut off before, so that this one starts on its own.
    """
    # Unbuffered: what a buffer could not write it would try again when it is closed, and after the
    # cut that may succeed for the end of the line.
    with path.open("a+b", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        while end and os.pread(file.fileno(), 1, end - 1) != b"\n":
            end -= 1
        os.truncate(path, end)
        left = memoryview(f"{line}\n".encode())
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, end)
            raise


def swap(names: Iterable[str], new: Path, folder: Path, old: Path) -> None:
    """Move files and folders of some names from `new` to `folder`, and what was there to `old`.

    All are on one disk. `old` is made; a name that `new` has not is only taken away. If one of them
    cannot be moved all is as it was.
    """
    old.mkdir()
    with ExitStack() as undo:
        for name in names:
            for origin, target in ((folder / name, old / name), (new / name, folder / name)):
                if os.path.lexists(origin):
                    os.replace(origin, target)
                    undo.callback(os.replace, target, origin)
        undo.pop_all()
