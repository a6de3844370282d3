"""A filter of the command line -> the rows of a frame that it keeps. Needs no torch."""

from __future__ import annotations

import ast
from collections.abc import Callable

import pandas as pd

from ..common.errors import UserError
from ..store.runs import COLUMNS, single_line

_ALLOWED = (
    *(ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE),
    *(ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple),
)


def parse_filter(text: str | None) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Return the function that keeps the rows of which an expression is true; all without one.

    The expression is one of `DataFrame.query` on the columns of a run, such as
    `operation == 'step' and batch >= 100`: comparisons and arithmetic, no call and no attribute.

    Raises:
        UserError: It is no such expression, or names no column.
    """
    if text is not None:
        _check(text)

    def keep(frame: pd.DataFrame) -> pd.DataFrame:
        if text is None:
            return frame
        try:
            kept = frame.query(text, engine="python")
        except Exception as error:  # of numbers with texts, say: pandas documents no common type
            raise _refused(text, single_line(error, 100)) from error
        if kept.empty:
            raise UserError(
                f"--filter must leave a case; {single_line(text)!r} leaves none of {len(frame):,}; "
                "`report --format csv` writes all of them"
            )
        return kept

    return keep


def _check(text: str) -> None:
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(text, "it cannot be read") from error
    for node in nodes:
        if not isinstance(node, _ALLOWED):
            raise _refused(text, f"{type(node).__name__} is not allowed")
        if isinstance(node, ast.Name) and node.id not in COLUMNS:
            raise _refused(text, f"{single_line(node.id, 60)} is no column")
    if not any(isinstance(node, ast.Compare) for node in nodes):
        raise _refused(text, "it compares nothing")


def _refused(text: str, why: str) -> UserError:
    return UserError(
        "--filter takes an expression on the columns of a run, such as \"operation == 'step' and "
        f'batch >= 100"; got {single_line(text)!r}: {why}; `report --format csv` shows the columns'
    )
