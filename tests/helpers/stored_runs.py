"""The runs that the checkout stores, each read once by a process."""

from functools import cache

import pandas as pd
from paths import ROOT

from bench.store.bounds import with_best_ceilings
from bench.store.runs import find_runs, load_run, runs_frame

PATHS = find_runs(ROOT / "results" / "runs")
stored_run = cache(load_run)


@cache
def stored_frame() -> pd.DataFrame:
    """Return all their cases; nobody may change it."""
    runs = {path: stored_run(path) for path in PATHS}
    return runs_frame((path, with_best_ceilings(run, runs.values())) for path, run in runs.items())
