"""Two results -> how they differ, each kind compared as its library does it.

Arrays, tensors and frames are told by the libraries that the process has loaded: none is imported.
"""

import math
import sys
from typing import Any

from ..common.errors import UserError, single_line

# Relative and absolute tolerances by the bytes of a real number, as torch.testing.assert_close has
# them, https://docs.pytorch.org/docs/stable/testing.html; of float64 the relative one is NumPy's.
TOLERANCES = {2: (1e-3, 1e-5), 4: (1.3e-6, 1e-5)}
USUAL = (1e-7, 1e-7)
EXACT = "biuSUOMmV"  # NumPy's kinds that are compared exactly
REMEDY = "make them alike, or say by equal= when they are"


def difference(ours: Any, theirs: Any) -> str | None:
    """Say how two results differ, or return None if they are equal.

    Floating-point numbers, NumPy arrays, torch tensors and pandas objects are equal within the
    tolerances of their dtypes, which must be equal; NaN equals NaN. Dictionaries, lists and tuples
    are compared by their elements, and all else by ==.

    Raises:
        UserError: == raises, or does not say yes or no, or a library cannot compare them.
    """
    try:
        _assert_equal(ours, theirs, "")
    except AssertionError as error:
        return single_line(" ".join(str(error).split()), 300)
    return None


def _assert_equal(ours: Any, theirs: Any, place: str) -> None:
    if (compare := _of_library(ours, theirs)) is not None:
        try:
            compare()
        except AssertionError as error:
            raise AssertionError(f"{place}: {error}" if place else str(error)) from None
        except Exception as error:
            kind = f"{type(ours).__name__} of {getattr(ours, 'dtype', 'several dtypes')}"
            raise UserError(
                f"results must be of a type that its library can compare; for {single_line(kind)} "
                f"it raised {type(error).__name__}: use equal="
            ) from error
    elif isinstance(ours, dict) and isinstance(theirs, dict):
        _require(ours.keys() == theirs.keys(), list(ours), list(theirs), f"the keys of {place}")
        for key, value in ours.items():
            _assert_equal(value, theirs[key], f"{place}[{_shown(key)}]")
    elif isinstance(ours, list | tuple) and type(ours) is type(theirs):
        _require(len(ours) == len(theirs), len(ours), len(theirs), f"the length of {place}")
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            _assert_equal(*pair, f"{place}[{number}]")
    elif isinstance(ours, float | complex) and isinstance(theirs, float | complex):
        _require(_is_close(ours, theirs), ours, theirs, place)
    else:
        try:
            are_equal = bool(ours == theirs)
        except Exception as error:
            raise UserError(
                f"results are compared by ==, which raised {type(error).__name__} for "
                f"{type(ours).__name__} and {type(theirs).__name__}: use equal="
            ) from error
        _require(are_equal, ours, theirs, place)


def _of_library(ours: Any, theirs: Any) -> Any:
    """Return the assertion of the library whose objects both are; None if they are of none."""
    loaded: list[Any] = [sys.modules.get(name) for name in ("torch", "numpy", "pandas")]
    torch, numpy, pandas = loaded

    def are(module: Any, *names: str) -> bool:
        kinds = tuple(getattr(module, name) for name in names if hasattr(module, name))
        return isinstance(ours, kinds) and isinstance(theirs, kinds)

    if are(torch, "Tensor"):
        return lambda: torch.testing.assert_close(ours, theirs, equal_nan=True)
    for name, function in (("DataFrame", "frame"), ("Series", "series"), ("Index", "index")):
        if are(pandas, name):
            return lambda: getattr(pandas.testing, f"assert_{function}_equal")(ours, theirs)
    if are(numpy, "ndarray", "generic"):
        return lambda: _assert_arrays_equal(numpy, ours, theirs)
    return None


def _assert_arrays_equal(numpy: Any, ours: Any, theirs: Any) -> None:
    _require(ours.dtype == theirs.dtype, ours.dtype, theirs.dtype, "the dtype")
    _require(ours.shape == theirs.shape, ours.shape, theirs.shape, "the shape")
    if ours.dtype.kind in EXACT:
        numpy.testing.assert_array_equal(ours, theirs)
    else:
        rtol, atol = TOLERANCES.get(numpy.finfo(ours.dtype).dtype.itemsize, USUAL)
        numpy.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def _is_close(ours: complex, theirs: complex) -> bool:
    rtol, atol = USUAL
    if ours == theirs or (ours != ours and theirs != theirs):
        return True
    reach = atol + rtol * abs(theirs)
    return math.isfinite(reach) and abs(ours - theirs) <= reach


def _require(holds: bool, ours: Any, theirs: Any, place: str) -> None:
    if not holds:
        where = f"{place.removesuffix(' of ')}: " if place else ""
        raise AssertionError(f"{where}{_shown(ours)} and {_shown(theirs)}")


def _shown(value: Any) -> str:
    try:
        return single_line(repr(value), 60)
    except Exception:  # a result of the user's, whose repr fails
        return f"a {type(value).__name__}"
