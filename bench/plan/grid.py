"""The grids: what a run measures where the command line names no axis of its own."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, TypeAdapter

from ..common.units import counted
from ..machine.environment import THREADS

DEFAULT_GRID = "headline"


class Processes(NamedTuple):
    """How many fresh processes time a benchmark: the least and the most, often the same.

    Between the two it has those that its intervals need, see `bench.run.stopping`.
    """

    least: int
    most: int

    def __str__(self) -> str:
        """Write it as a text has it: `5 processes`, `2 to 5 processes`."""
        least = f"{self.least} to " if self.least < self.most else ""
        return f"{least}{counted(self.most, 'process')}"


class GridBlock(BaseModel, extra="forbid", frozen=True):
    """Cases of some operations and types of device, or of all types where none is named."""

    operations: tuple[str, ...] = ()  # none: those that are wanted and in no block
    devices: tuple[str, ...] = ()
    dtypes: tuple[str, ...]
    sizes: tuple[tuple[int, ...], ...] = ()  # in the order of the axes of the operations


def _both(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


class Grid(BaseModel, extra="forbid", frozen=True):
    """A grid; `grids.toml` explains each field."""

    block: tuple[GridBlock, ...]
    processes: Annotated[Processes, BeforeValidator(_both)] = Processes(5, 5)
    threads: str = str(THREADS)
    longest_call_s: float = 5.0
    peers: bool = False
    kernel_files: tuple[str, ...] = ()  # relative to the folder `bench`
    kernels: dict[str, frozenset[str]] = {}


_TEXT = Path(__file__).with_name("grids.toml").read_text(encoding="utf-8")
GRIDS = TypeAdapter(dict[str, Grid]).validate_python(tomllib.loads(_TEXT))
