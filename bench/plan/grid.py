"""The grids: what a run measures where the command line names no axis of its own."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from ..machine.environment import THREADS

DEFAULT_GRID = "headline"


class GridBlock(BaseModel, extra="forbid", frozen=True):
    """Cases of some operations and types of device, or of all types where none is named."""

    operations: tuple[str, ...] = ()  # none: those that are wanted and in no block
    devices: tuple[str, ...] = ()
    dtypes: tuple[str, ...]
    sizes: tuple[tuple[int, ...], ...] = ()  # in the order of the axes of the operations


class Grid(BaseModel, extra="forbid", frozen=True):
    """A grid; `grids.toml` explains each field."""

    block: tuple[GridBlock, ...]
    processes: int = 5
    threads: str = str(THREADS)
    longest_call_s: float = 5.0
    peers: bool = False
    kernel_files: tuple[str, ...] = ()  # relative to the folder `bench`
    kernels: dict[str, frozenset[str]] = {}


_TEXT = Path(__file__).with_name("grids.toml").read_text(encoding="utf-8")
GRIDS = TypeAdapter(dict[str, Grid]).validate_python(tomllib.loads(_TEXT))
