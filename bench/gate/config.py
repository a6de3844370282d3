"""What the gate lets pass: for all kernels, and by pyproject's `[tool.mlr.gate]` for single ones.

A threshold is one field of `Thresholds`: its option of the command line, its key in pyproject and
its check follow from it.
"""

import argparse
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..common.errors import UserError
from ..store.files import first_error

Share = Annotated[float, Field(ge=0, lt=10)]
_Model = TypeVar("_Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class Thresholds(_Strict):
    """What counts as a regression; shares of the base's time, so 0.02 is 2 %."""

    threshold: Share = Field(default=0.02, description="a slow-down that is let pass")
    equivalence_margin: Share = Field(default=0.05, description="a slow-down that must be found")
    slow_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.33, description="an excess of processes with such a slow-down that must be found"
    )

    @model_validator(mode="after")
    def _margin_above_threshold(self) -> Self:
        if self.equivalence_margin > self.threshold:
            return self
        raise ValueError(
            "--equivalence-margin must be above --threshold, or nothing could pass; got "
            f"{100 * self.equivalence_margin:g}% and {100 * self.threshold:g}%: raise the margin "
            "or lower the threshold"
        )


class _Table(_Strict):
    """The table `[tool.mlr.gate]` of a pyproject file."""

    allow_regression: list[str] = []
    kernels: dict[str, dict[str, Any]] = {}


class GateConfig(NamedTuple):
    """What the gate lets pass."""

    thresholds: Thresholds = Thresholds()  # of every kernel that has none of its own
    by_kernel: Mapping[str, Thresholds] = {}
    allow_regression: frozenset[str] = frozenset()  # may be removed, fail, or take more memory

    def is_allowed(self, kernel: str) -> bool:
        """Say whether a kernel, by its key, may regress: it is named by that or by its own name."""
        return not self.allow_regression.isdisjoint((kernel, name_of(kernel)))

    def thresholds_of(self, kernel: str) -> Thresholds:
        """Return the thresholds of a kernel by its key, likewise."""
        return self.by_kernel.get(kernel, self.by_kernel.get(name_of(kernel), self.thresholds))


def name_of(key: str) -> str:
    """Return the name of a kernel in its key, which may have an operation before it."""
    return key.rpartition(".")[2]


def read_config(arguments: argparse.Namespace, pyproject: Path) -> GateConfig:
    """Put the options of the command line and the table of a pyproject file together.

    Raises:
        UserError: The file is no TOML, the table holds what it must not, or thresholds contradict
            each other.
    """
    given = {name: getattr(arguments, name) for name in Thresholds.model_fields}
    usual = _valid(Thresholds, given)
    try:
        text = pyproject.read_text(encoding="utf-8") if pyproject.exists() else ""
        content = tomllib.loads(text).get("tool", {}).get("mlr", {}).get("gate", {})
    except (OSError, ValueError) as error:  # TOMLDecodeError, UnicodeDecodeError
        raise UserError(f"{pyproject} must be readable TOML; {error}") from error
    where = f"[tool.mlr.gate] in {pyproject}: "
    table = _valid(_Table, content, where)
    own = {
        kernel: _valid(Thresholds, given | some, f"{where}kernels.{kernel}: ")
        for kernel, some in table.kernels.items()
    }
    named = filter(None, arguments.allow_regression.split(","))
    return GateConfig(usual, own, frozenset([*table.allow_regression, *named]))


def _valid(model: type[_Model], values: Any, where: str = "") -> _Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}{first_error(error)}") from error
