"""What pyproject's `[tool.mlr-bench]` says: what is compared, how it is built, what may pass.

A threshold is one field of `Thresholds`: its option of the command line, its key in pyproject and
its check follow from it.
"""

import argparse
import tomllib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..common.errors import UserError
from ..store.files import first_error

MLR = "mlr"  # the package that is compared where no other is named
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


class _Gate(_Strict):
    """The table `[tool.mlr-bench.gate]` of a pyproject file."""

    allow_regression: list[str] = []
    kernels: dict[str, dict[str, Any]] = {}


class Project(_Strict):
    """The table `[tool.mlr-bench]`: what is compared in a repository, and how it is built."""

    packages: list[str] = [MLR]  # by their paths in the repository
    kernel_files: list[str] = []  # likewise
    build: list[str] = []  # a command; `python` is the interpreter of a version
    gate: _Gate = _Gate()

    @field_validator("packages")
    @classmethod
    def _packages_have_names_of_their_own(cls, packages: list[str]) -> list[str]:
        for one in map(PurePosixPath, packages):
            if one.is_absolute() or ".." in one.parts or not one.name.isidentifier():
                raise ValueError(
                    "a package is named as it is imported, or by its path in the repository as "
                    f"src/theirs; got {str(one)!r}; name the folder or the module, without .py"
                )
        names = [PurePosixPath(one).name for one in packages]
        if not names or len({*names}) < len(names) or (MLR in names and len(names) > 1):
            raise ValueError(
                f"packages are one or more, of different names, and {MLR} only by itself; got "
                f"{', '.join(packages) or 'none'}; name those that may differ"
            )
        return packages

    @property
    def names(self) -> list[str]:
        """Return the packages as they are imported."""
        return [PurePosixPath(one).name for one in self.packages]

    @property
    def is_of_mlr(self) -> bool:
        """Whether versions of `mlr` are compared, and not packages that it measures."""
        return self.names == [MLR]


class GateConfig(NamedTuple):
    """What the gate lets pass."""

    thresholds: Thresholds = Thresholds()  # of every kernel that has none of its own
    by_kernel: Mapping[str, Thresholds] = {}
    allow_regression: frozenset[str] = frozenset()  # may become worse or be removed

    def is_allowed(self, kernel: str) -> bool:
        """Say whether a kernel, by its key, may regress: it is named by that or by its own name."""
        return not self.allow_regression.isdisjoint((kernel, name_of(kernel)))

    def thresholds_of(self, kernel: str) -> Thresholds:
        """Return the thresholds of a kernel by its key, likewise."""
        return self.by_kernel.get(kernel, self.by_kernel.get(name_of(kernel), self.thresholds))


def name_of(key: str) -> str:
    """Return the name of a kernel in its key, which may have an operation before it."""
    return key.rpartition(".")[2]


def read_project(pyproject: Path) -> Project:
    """Read `[tool.mlr-bench]` of a pyproject file, which need not be there.

    Raises:
        UserError: The file is no TOML, or the table holds what it must not.
    """
    try:
        text = pyproject.read_text(encoding="utf-8") if pyproject.exists() else ""
        table = tomllib.loads(text).get("tool", {}).get("mlr-bench", {})
    except (OSError, ValueError, AttributeError) as error:  # TOMLDecodeError, UnicodeDecodeError
        raise UserError(f"{pyproject} must be readable TOML; {error}") from error
    return _valid(Project, table, f"[tool.mlr-bench] in {pyproject}: ")


def read_config(arguments: argparse.Namespace, pyproject: Path) -> GateConfig:
    """Put the options of the command line and the table of a pyproject file together.

    Raises:
        UserError: As `read_project`, or thresholds contradict each other.
    """
    given = {name: getattr(arguments, name) for name in Thresholds.model_fields}
    usual, table = _valid(Thresholds, given), read_project(pyproject).gate
    where = f"[tool.mlr-bench.gate] in {pyproject}: "
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
