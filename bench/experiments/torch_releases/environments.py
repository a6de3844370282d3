"""An environment for each release of torch, alike in everything else; made by uv or pip, and kept.

Which builds they find is theirs to say: `UV_TORCH_BACKEND=cpu`, or `PIP_EXTRA_INDEX_URL`, finds
those without CUDA, which take a tenth of the room.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ...common.errors import UserError, single_line
from ...common.paths import IS_INSTALLED, ROOT
from ...common.units import format_bytes
from ...store.files import atomic_write, require_writable

NEEDED_BYTES = 8 * 2**30  # of an environment with the libraries of CUDA
OF_TORCH = ("torch", "triton")  # what may differ from one environment to another
INSTALLED = "installed.json"  # what was asked for and came, written once all is there
ASK = """
import json, platform, numpy, torch
found = {one.__name__: one.__version__ for one in (numpy, torch)}
print(json.dumps({"python": platform.python_version(), **found}))
"""


class Environment(NamedTuple):
    """An environment that has a release of torch."""

    release: str  # as asked for, with three numbers
    python: str  # its interpreter
    versions: dict[str, str]  # of Python, numpy and torch, as each says itself


def read_releases(texts: Sequence[str]) -> list[str]:
    """Return releases with three numbers each: `2.12` is 2.12.0.

    Raises:
        UserError: There are fewer than two, one is named twice, or is no release.
    """
    found = []
    for text in texts:
        if not re.fullmatch(r"\d{1,3}\.\d{1,3}(\.\d{1,3})?", text, re.ASCII):
            raise UserError(
                f"a release of torch is written as 2.13.0; got {single_line(repr(text), 60)}; "
                "`pip index versions torch` lists them"
            )
        found.append(text if text.count(".") == 2 else f"{text}.0")
    if len(found) < 2 or len({*found}) < len(found):
        said = " ".join(found) or "none"
        raise UserError(
            "each release is compared with the one before: two or more are needed, each once, the "
            f"oldest first; got {said}"
        )
    return found


def prepare(
    releases: Sequence[str], folder: Path, show: Callable[[str], None]
) -> list[Environment]:
    """Return an environment for each release; those of an earlier time are used again.

    Raises:
        UserError: There is too little room, or a release cannot be installed.
    """
    require_writable("the folder of environments", folder)
    found = {one: _installed(one, folder / one) for one in releases}
    lacking = [one for one, environment in found.items() if environment is None]
    free = shutil.disk_usage(folder).free
    if free < (needed := len(lacking) * NEEDED_BYTES):
        raise UserError(
            f"an environment may take {format_bytes(NEEDED_BYTES)}, {len(lacking)} are to be made; "
            f"{single_line(folder)} has {format_bytes(free)} of {format_bytes(needed)}; free some, "
            "name another folder with --environments, or fewer releases"
        )
    for one in lacking:
        show(f"installing torch {one}")
        found[one] = _install(one, folder / one)
    return [environment for environment in found.values() if environment]


def requirements(release: str) -> tuple[list[str], str]:
    """Return what an environment gets, and the constraints that all of them have."""
    if IS_INSTALLED:
        raise UserError(
            "releases are compared on a checkout, which says what is installed beside them; this "
            "suite is installed; start python -m bench in a checkout"
        )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    asked = [f"torch=={release}", *_without(OF_TORCH, project["dependencies"])]
    return asked, "".join(f"{line}\n" for line in _without(OF_TORCH, lines))


def _without(names: Sequence[str], lines: Sequence[str]) -> list[str]:
    return [one for one in lines if re.split(r"[^\w.-]", one)[0] not in names]


def _installed(release: str, folder: Path) -> Environment | None:
    """Return what lies in a folder, if it is all that would be installed there."""
    try:
        stored = json.loads((folder / INSTALLED).read_text(encoding="utf-8"))
        if stored["asked"] == list(requirements(release)):
            return Environment(release, str(folder / "bin" / "python"), stored["versions"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # what was not finished, or is not ours
    return None


def _install(release: str, folder: Path) -> Environment:
    """Make an environment, in place of what lies there."""
    if (folder / "pyvenv.cfg").exists():  # of another time, or not finished
        shutil.rmtree(folder)
    asked, constraints = requirements(release)
    file, python = folder / "constraints.txt", str(folder / "bin" / "python")
    own = [sys.executable, "-m", "uv"] if find_spec("uv") else [*filter(None, [shutil.which("uv")])]
    if own:
        _run(release, [*own, "venv", "--python", sys.executable, str(folder)])
    else:
        _run(release, [sys.executable, "-m", "venv", str(folder)])
    file.write_text(constraints, encoding="utf-8")
    tool = [*own, "pip", "install", "--python", python] if own else [python, "-m", "pip", "install"]
    _run(release, [*tool, "--quiet", "--constraint", str(file), *asked])
    versions = json.loads(_run(release, [python, "-c", ASK]))
    text = json.dumps({"asked": [asked, constraints], "versions": versions})
    atomic_write(folder / INSTALLED, text)
    return Environment(release, python, versions)


def _run(release: str, command: Sequence[str]) -> str:
    """Run a command of an installation and return what it prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
    except OSError as error:
        said = str(error)
    else:
        if done.returncode == 0:
            return done.stdout
    raise UserError(
        f"a release must be one that pip finds for this Python and that can be imported; torch "
        f"{release}: {single_line(said.rstrip('.'), 400)}; `pip index versions torch` lists them"
    )
