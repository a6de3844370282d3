"""Where the suite lies, where its results go, and by which command it is started."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]  # of the package
PACKAGE = __name__.partition(".")[0]  # `bench` in a checkout; the wheel calls it `mlr_bench`
IS_INSTALLED = PACKAGE != "bench"
COMMAND = "mlr-bench" if IS_INSTALLED else f"python -m {PACKAGE}"
# Where processes are started and results kept: the checkout, or the folder one stands in.
ROOT = Path.cwd() if IS_INSTALLED else FOLDER.parent
RESULTS = ROOT / "results"
