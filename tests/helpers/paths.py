"""Where the tests find the repository and the files beside them."""

from pathlib import Path

HELPERS = Path(__file__).resolve().parent
ROOT = HELPERS.parents[1]
KERNEL_FILES = ROOT / "tests" / "kernel_files"
