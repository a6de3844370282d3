"""Made-up repositories of other people's, of three commits: a base, a refactor, a slower commit.

Each has a package `theirs` with one function, which computes the same sines ten times; the slower
commit does so eleven times. One is of torch, one of NumPy alone, one a C extension.
"""

import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from versions import commit

BASE, REFACTOR, SLOWER = "base", "refactor", "slower"  # the tags of the commits
ROUNDS = "range(10)"
KERNEL_FILE = '''"""What of theirs is timed."""
import torch

from mlr import kernel, operation
from theirs import waves_of


@operation(axes={"length": (5_000,)})
class waves:
    """The sines of some numbers."""

    def inputs(case, generator):
        return {"x": torch.randn(case.length, generator=generator, dtype=torch.float64)}

    def oracle(x):
        return x.sin()


@kernel(operation="waves", baseline=True)
def theirs(x):
    return waves_of(x)
'''
IN_NUMPY = '''"""What of theirs is timed; nothing here knows torch."""
import numpy as np

from mlr import kernel, operation
from theirs import waves_of


@operation(axes={"length": (2_000,)}, numpy=True)
class waves:
    """The sines of some numbers."""

    def inputs(case, random):
        return {"x": random.standard_normal(case.length)}

    def oracle(x):
        return np.sin(x)


@kernel(operation="waves", baseline=True, numpy=True)
def theirs(x):
    return waves_of(x)
'''
CORE = f"""from {{library}} import sin


def waves_of(x):
    for _ in {ROUNDS}:
        y = sin(x)
    return y
"""
REFACTORED = (
    CORE.replace("def waves_of(x):\n", "def _repeated(x):\n")
    + """

def waves_of(x):
    return _repeated(x)
"""
)
EXTENSION = r"""
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>

static PyObject *waves_into(PyObject *self, PyObject *args) {
    Py_buffer x, y;
    if (!PyArg_ParseTuple(args, "y*w*", &x, &y)) return NULL;
    const double *from = x.buf;
    double *to = y.buf;
    for (int round = 0; round < 10; round++) {
        for (Py_ssize_t i = 0; i < x.len / 8; i++) to[i] = sin(from[i]);
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    PyBuffer_Release(&x);
    PyBuffer_Release(&y);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"waves_into", waves_into, METH_VARARGS, NULL}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "core", NULL, -1, methods};
PyMODINIT_FUNC PyInit_core(void) { return PyModule_Create(&module); }
"""
BUILD = """import subprocess
import sysconfig

name = "src/theirs/core" + sysconfig.get_config_var("EXT_SUFFIX")
include = sysconfig.get_path("include", "posix_prefix")
command = ["gcc", "-O2", "-shared", "-fPIC", "-I" + include, "core.c", "-o", name, "-lm"]
subprocess.run(command, check=True)
"""
AROUND = """import numpy as np

from .core import waves_into


def waves_of(x):
    y = np.empty_like(x)
    waves_into(x, y)
    return y
"""
FROM_CORE = "from .core import waves_of\n"
PYTHON_TEST = "from theirs import waves_of\n\n\ndef test_it():\n    assert waves_of is not None\n"


def needs_compiler() -> str | None:
    """Say why no extension can be built here; None where one can."""
    if shutil.which("gcc") is None:
        return "there is no gcc"
    header = Path(sysconfig.get_path("include", "posix_prefix"), "Python.h")
    return None if header.exists() else f"there is no {header}"


def write(root: Path, files: Mapping[str, str]) -> Path:
    """Write files of a repository by their names in it, and return its folder."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def tag(root: Path, name: str, files: Mapping[str, str]) -> None:
    """Write files, commit all there is, and call the commit by a tag."""
    commit(write(root, files), name)
    subprocess.run(["git", "tag", name], cwd=root, check=True)


def settings(packages: str = "theirs", more: str = "") -> str:
    """Return a pyproject file that names what is compared."""
    table = f'packages = ["{packages}"]\nkernel_files = ["bench/kernels.py"]\n'
    return f"[tool.mlr-bench]\n{table}{more}"


def in_python(root: Path, library: str) -> Path:
    """Make the repository of a package that uses `torch` or `numpy`."""
    core, again = (text.format(library=library) for text in (CORE, REFACTORED))
    tag(root, BASE, {
        "pyproject.toml": settings(),
        ".gitignore": "__pycache__\n.benchmarks\n",
        "bench/kernels.py": KERNEL_FILE if library == "torch" else IN_NUMPY,
        "tests/test_theirs.py": PYTHON_TEST,
        "theirs/__init__.py": FROM_CORE,
        "theirs/core.py": core,
    })  # fmt: skip
    tag(root, REFACTOR, {"theirs/core.py": again})
    tag(root, SLOWER, {"theirs/core.py": again.replace(ROUNDS, "range(11)")})
    return root


def in_c(root: Path) -> Path:
    """Make the repository of a package that is an extension, in `src`, which git does not hold."""
    tag(root, BASE, {
        "pyproject.toml": settings("src/theirs", 'build = ["python", "build.py"]\n'),
        ".gitignore": "__pycache__\n.benchmarks\n*.so\n",
        "bench/kernels.py": IN_NUMPY,
        "tests/test_theirs.py": PYTHON_TEST,
        "build.py": BUILD,
        "core.c": EXTENSION,
        "src/theirs/__init__.py": AROUND,
    })  # fmt: skip
    again = EXTENSION.replace("from[i]", "x_at(from, i)").replace(
        "static PyObject *waves_into",
        "static inline double x_at(const double *x, Py_ssize_t i) { return x[i]; }\n\n"
        "static PyObject *waves_into", 1,
    )  # fmt: skip
    tag(root, REFACTOR, {"core.c": again})
    tag(root, SLOWER, {"core.c": again.replace("round < 10", "round < 11")})
    return root
