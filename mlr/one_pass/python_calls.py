"""Python functions that call compiled code, in a fraction of the time that ctypes takes.

CPython hands the arguments of a function declared with METH_FASTCALL over as an array of objects.
One compiled function turns it into the numbers of `Argument` and calls the sweep whose address it
was made with; numba calls what it compiles in the same way. All that it uses is part of Python's
stable ABI. Source: docs.python.org/3/c-api/structures.html.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

from .codegen import Argument

Integers = Callable[..., None]  # of the numbers of `Argument` in order; those left out are 0

NAME = "call_with_numbers"
_METH_FASTCALL = 0x80
_USED = (
    *("PyErr_Occurred", "PyEval_RestoreThread", "PyEval_SaveThread"),
    *("PyLong_AsLongLong", "PyLong_AsVoidPtr", "Py_IncRef"),
)
# As the source of the module: `%code` is the sweep's address, and other threads go on meanwhile.
_SOURCE = """
define ptr @{name}(ptr %code, ptr %given, i64 %count) {{
entry:
  %numbers = alloca [{length} x i64], align 64
  store [{length} x i64] zeroinitializer, ptr %numbers
  %some = icmp slt i64 %count, {length}
  %stop = select i1 %some, i64 %count, i64 {length}
  br label %head
head:
  %index = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %index, %stop
  br i1 %more, label %body, label %read
body:
  %place = getelementptr ptr, ptr %given, i64 %index
  %object = load ptr, ptr %place
  %number = call i64 {PyLong_AsLongLong}(ptr %object)
  %into = getelementptr i64, ptr %numbers, i64 %index
  store i64 %number, ptr %into
  %next = add i64 %index, 1
  br label %head
read:
  %error = call ptr {PyErr_Occurred}()
  %right = icmp eq ptr %error, null
  br i1 %right, label %run, label %raise
run:
  %sweep = call ptr {PyLong_AsVoidPtr}(ptr %code)
  %state = call ptr {PyEval_SaveThread}()
  call void %sweep(ptr %numbers)
  call void {PyEval_RestoreThread}(ptr %state)
  call void {Py_IncRef}(ptr {none})
  ret ptr {none}
raise:
  ret ptr null
}}
"""


class _Method(ctypes.Structure):
    """Python's `PyMethodDef`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("documentation", ctypes.c_char_p),
    )


def source() -> str:
    """Return the IR of the function that all these calls go through."""

    def constant(address: int | None) -> str:
        return f"inttoptr (i64 {address} to ptr)"

    used = {
        name: constant(ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value)
        for name in _USED
    }
    return _SOURCE.format(name=NAME, length=len(Argument), none=constant(id(None)), **used)


@cache
def _method(address: int) -> _Method:
    return _Method(b"sweep", address, _METH_FASTCALL, None)


def make_function(through: int, code: int) -> Integers:
    """Return the Python function that calls compiled code with numbers.

    It takes any number of integers, and refuses what is none with a TypeError; what comes after
    the last of `Argument` is not looked at.

    Args:
        through: The address of what `source` becomes.
        code: The address of the sweep, which takes that of `Argument` numbers.
    """
    kind = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, *[ctypes.py_object] * 2)
    make = kind(("PyCFunction_NewEx", ctypes.pythonapi))
    function: Integers = make(ctypes.addressof(_method(through)), code, None)
    return function
