"""Sessions of pytest with `paired`, in a folder of their own, as a user starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

from paths import HELPERS, ROOT

ONE_PROCESS = "--paired-max-time=0.001s"  # time is up after the first
PLUGIN = ("-p", "bench.plugin")


def run(
    folder: Path,
    *arguments: object,
    start: tuple[str, ...] = ("-m", "pytest", *PLUGIN),
    paths: tuple[Path, ...] = (ROOT, HELPERS),
) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder; of this session it has the interpreter alone."""
    outside = {name: one for name, one in os.environ.items() if not name.startswith("PYTEST")}
    env = outside | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "120"}
    command = [sys.executable, *start, "-p", "no:cacheprovider", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=200,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


def pairs_of(path: Path) -> dict[str, dict]:
    document = json.loads(path.read_text())
    infos = [one["extra_info"] for one in document["benchmarks"] if one["extra_info"]]
    return {one["pair"]: one for one in [*infos, *document["untimed"]]}
