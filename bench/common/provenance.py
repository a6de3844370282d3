"""Which code measures and is measured: the commit of a checkout, or an installed version."""

import hashlib
from contextlib import chdir
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .paths import FOLDER, IS_INSTALLED, ROOT

DISTRIBUTION = "mlr-bench"


def commit_info() -> dict[str, Any]:
    """Return the commit of the code that runs, as a run file has it.

    Of an installed suite, which has none, the `id` is `installed_id`, wherever it is started: what
    lies there is not what it measures.
    """
    if IS_INSTALLED:
        return {"id": installed_id(), "dirty": False, "project": DISTRIBUTION}
    from pytest_benchmark.utils import get_commit_info  # a report does not need it

    with chdir(ROOT):
        found: dict[str, Any] = get_commit_info()
    return found


@cache
def installed_id() -> str:
    """Return the installed version and a hash of its source as it lies there, `0.2.0-1c291ca3`."""
    spec, digest = find_spec("mlr"), hashlib.sha256()
    places = [FOLDER, *map(Path, (spec and spec.submodule_search_locations) or ())]
    for place in places:
        for path in sorted(place.rglob("*.*")):
            if path.suffix in (".py", ".toml"):
                digest.update(path.relative_to(place).as_posix().encode() + path.read_bytes())
    return f"{version(DISTRIBUTION)}-{digest.hexdigest()[:8]}"
