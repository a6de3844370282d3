"""The wheel, built and installed into an environment of its own that sees the packages of this one.

No network is needed; the checkout is not seen.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from paths import ROOT

# What torch, matplotlib and what they load keep for themselves in a home, and torch beside it.
FOREIGN = (".cache/", ".config/matplotlib/")


def build_wheel(folder: Path) -> Path:
    """Build the wheel into a folder, as `uv build` does."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


class Environment:
    """A folder to stand in, and an environment that has the wheel: what it writes is seen."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.here, self.home, self.temporary = (folder / name for name in ("here", "home", "tmp"))
        for one in (self.here, self.home, self.temporary):
            one.mkdir()
        self.venv = folder / "venv"
        uv, own = [sys.executable, "-m", "uv"], ["--offline", "--no-cache"]
        subprocess.run([*uv, "venv", "-q", *own, "--python", sys.executable, self.venv], check=True)
        self.python = self.venv / "bin" / "python"
        install = ["pip", "install", "-q", *own, "--no-deps", "--compile-bytecode"]
        subprocess.run([*uv, *install, "--python", self.python, wheel], check=True)
        (self.packages,) = self.venv.glob("lib/python*/site-packages")
        (self.packages / "present.pth").write_text(sysconfig.get_path("purelib"))
        self.before = self.installed()

    def installed(self) -> dict[str, int]:
        """Every file of the environment, and when it was changed."""
        return {str(path): path.stat().st_mtime_ns for path in self.packages.rglob("*")}

    def run(
        self, *command: str, here: Path | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a folder, with a home and a temporary folder that are empty."""
        kept = {
            name: os.environ[name] for name in ("LANG", "LD_LIBRARY_PATH") if name in os.environ
        }
        places = {"HOME": str(self.home), "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        path = {"PATH": f"{self.venv / 'bin'}:{os.environ['PATH']}"}
        return subprocess.run(
            command, cwd=here or self.here, env={**kept, **places, **path, **more}, text=True,
            capture_output=True, check=False,
        )  # fmt: skip

    def foreign(self) -> set[str]:
        """What was written outside the folder, and is not the cache of another library."""
        kept = {path.relative_to(self.home).as_posix() for path in self.home.rglob("*")
                if path.is_file()}  # fmt: skip
        own = {name for name in kept if not name.startswith(FOREIGN)}
        left = {path.name for path in self.temporary.iterdir()}
        return own | {name for name in left if not name.startswith("torchinductor_")}
