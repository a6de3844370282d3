"""What a gate lets pass, for all kernels and, by pyproject's `[tool.mlr.gate]`, for single ones."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..common.errors import UserError
from .sequential import Rule

Share = Annotated[float, Field(ge=0, lt=10)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class KernelTable(_Table):
    """What holds for one kernel instead; shares, so 0.02 is 2 %."""

    tolerance: Share | None = None
    target: Share | None = None


class GateTable(_Table):
    """The table `[tool.mlr.gate]` of a pyproject file."""

    allow: list[str] = []
    kernels: dict[str, KernelTable] = {}


def rule_of(tolerance: float, target: float, kernel: str | None = None) -> Rule:
    """Make a rule of the command line's two options, or of one kernel's own.

    Raises:
        UserError: The target is not above the tolerance: nothing could ever pass.
    """
    if not target > tolerance:
        where = f" for kernel {kernel} ([tool.mlr.gate.kernels.{kernel}])" if kernel else ""
        raise UserError(
            f"--target must be above --tolerance, or nothing could pass; got --target "
            f"{100 * target:g}% and --tolerance {100 * tolerance:g}%{where}: raise the target or "
            "lower the tolerance"
        )
    return Rule(tolerance=tolerance, target=target)


def read_table(pyproject: Path) -> GateTable:
    """Read `[tool.mlr.gate]`.

    Raises:
        UserError: The file is no TOML, or the table holds what it must not.
    """
    try:
        content = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return GateTable()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{pyproject} must be readable TOML; {error}") from error
    table = content.get("tool", {}).get("mlr", {}).get("gate", {})
    try:
        return GateTable.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"[tool.mlr.gate] in {pyproject}: {where}: {first['msg']}") from error


def kernel_rules(table: GateTable, usual: Rule) -> dict[str, Rule]:
    """Return the rules of the kernels that have their own.

    Raises:
        UserError: One has a target that is not above its tolerance.
    """
    return {
        name: rule_of(
            usual.tolerance if own.tolerance is None else own.tolerance,
            usual.target if own.target is None else own.target,
            name,
        )
        for name, own in table.kernels.items()
    }
