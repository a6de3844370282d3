"""What a measuring process of the gate is asked to do, as JSON on its standard input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from mlr import Case

BASE, HEAD = "base", "head"


@dataclass(frozen=True)
class KernelCase:
    """One kernel on one case; the kernel by name, since each version has its own."""

    kernel: str
    case: Case

    @property
    def name(self) -> str:
        """Its id, `matmul-cpu-float64-33x6x3`: a kernel belongs to one operation."""
        return f"{self.kernel}-{self.case.id}"


@dataclass(frozen=True)
class Spec:
    """What a process is to do."""

    folders: Mapping[str, str]  # of the versions to load, by `base` or `head`
    cases: Sequence[KernelCase]  # in their order
    seed: int = 0  # of the inputs and of the order of slices
    control: str | None = None  # the case whose base is also timed against itself


SPEC = TypeAdapter(Spec)  # to and from JSON
