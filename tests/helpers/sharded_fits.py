"""Run by test_distributed.py: fits on sharded rows, their parameters into a file."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from mlr import LinearRegression, distributed

KERNELS = ("matmul", "one_pass", "factored_einsum")
ROWS, FEATURES, OUTPUTS, LR = 203, 6, 3, 0.05


def model_of(kernel: str, dtype: torch.dtype) -> LinearRegression:
    start = torch.Generator().manual_seed(7)
    return LinearRegression(FEATURES, OUTPUTS, kernel=kernel, dtype=dtype, generator=start)


def uneven(workers: distributed.Workers, rows: int) -> slice:
    """The first worker has 3 rows, the last none where there are more than two."""
    ends = [0, 3, *np.linspace(3, rows, max(workers.world - 1, 2)).astype(int)[1:]]
    ends += [rows] * (workers.world + 1 - len(ends))
    return slice(int(ends[workers.rank]), int(ends[workers.rank + 1]))


def main(folder: Path, steps: int, epochs: int, few: int) -> None:
    found: dict[str, np.ndarray] = {}
    losses: dict[str, list[float]] = {}
    with distributed.init() as workers:
        whole = [torch.from_numpy(np.load(folder / f"{name}.npy")) for name in "xy"]

        def fit(
            name: str, kernel: str, shards: distributed.ShardedRows, epochs: int, **how: str
        ) -> None:
            model = model_of(kernel, shards.dtype)
            history = distributed.fit(workers, model, shards, epochs, LR, **how)
            found[f"{name}/weight"] = model.weight.numpy()
            found[f"{name}/bias"] = model.bias.numpy()
            losses[name] = [epoch.mse for epoch in history]

        for dtype in (torch.float32, torch.float64):
            short = str(dtype).removeprefix("torch.")
            files = [folder / f"{name}.npy" for name in "xy"]
            own = [value[uneven(workers, ROWS)].to(dtype) for value in whole]
            full = distributed.FileRows(workers, *files, dtype=dtype)
            pieces = distributed.FileRows(workers, *files, dtype=dtype, piece_rows=17)
            batches = distributed.FileRows(workers, *files, 25, dtype=dtype)
            for kernel in KERNELS:
                fit(f"even/{kernel}/{short}", kernel, full, steps)
            for kernel in KERNELS[:few]:
                fit(f"uneven/{kernel}/{short}", kernel, distributed.LocalRows(workers, *own), steps)
                fit(f"batches/{kernel}/{short}", kernel, batches, epochs)
            fit(f"pieces/matmul/{short}", "matmul", pieces, steps)
            for method in ("ddp", "statistics"):
                fit(f"even/{method}/{short}", "matmul", full, steps, method=method)
                uneven_rows = distributed.LocalRows(workers, *own, piece_rows=40)
                fit(f"uneven/{method}/{short}", "matmul", uneven_rows, steps, method=method)
    if workers.rank == 0:
        np.savez(folder / "found.npz", **found)
        (folder / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
