"""Many stored results, and how long they take.

`pytest tests/bench/store/test_many_runs.py -s -m "" --results 100000` says so.

Memory is held to a bound; times are only told, since this machine may be busy.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from run_builder import KERNELS, build_run

EACH = 1_000  # results of a run
MOST_BYTES, MOST_A_RESULT = 400 * 2**20, 5_000  # 0.9 GB for a hundred thousand
# Reads all runs as the command does, and says what it took.
REPORT = """
import re, sys, time
from pathlib import Path
start = time.monotonic()
from bench.report.build import write_report, write_table
from bench.store.runs import find_runs, latest_runs, load_frame, load_heads
assert "torch" not in sys.modules
paths = find_runs(Path(sys.argv[1]))
if sys.argv[3] == "report":
    heads = load_heads(paths)
    write_report(latest_runs(heads), Path(sys.argv[2]), page=True, heads=heads, history=True)
else:
    frame = load_frame(paths)
    assert len(frame) >= int(sys.argv[4])
    write_table(frame, Path(sys.argv[2], f"results.{sys.argv[3]}"))
# The high-water mark of this program: getrusage's is that of who started it as well.
peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(time.monotonic() - start, peak)
"""


@pytest.fixture(scope="module")
def count(pytestconfig: pytest.Config) -> int:
    """How many results, in runs of a thousand each."""
    return int(pytestconfig.getoption("--results"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, count: int) -> Path:
    """Runs of a machine, a day each."""
    folder = tmp_path_factory.mktemp("runs") / "here"
    folder.mkdir()
    sizes = [(10 * 2**k, 6 + j, 3) for k in range(16) for j in range(-(-EACH // 144))]
    text = json.dumps(build_run(["gradient"], sizes, kernels=KERNELS, slug="here", processes=5))
    for day in range(count // EACH):
        at = f"2026-{1 + day // 28:02}-{1 + day % 28:02}T05:00:00+00:00"
        run = text.replace("2026-11-23T05:00:00+00:00", at)
        (folder / f"{day:03}.json").write_text(run)
    return folder.parent


@pytest.mark.parametrize(
    "what",
    ["csv", *(pytest.param(what, marks=pytest.mark.slow) for what in ("report", "parquet"))],
)
def test_many_results(runs: Path, count: int, tmp_path: Path, what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REPORT, str(runs), str(tmp_path), what, str(count)],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]
    seconds, peak = map(float, done.stdout.split())
    print(f"\n{what} of {count:,} results: {seconds:.1f} s, {peak / 2**20:.0f} MiB at peak")
    assert peak < MOST_BYTES + MOST_A_RESULT * count
    if what == "report":
        assert (tmp_path / "report.html").stat().st_size < 5_000_000
