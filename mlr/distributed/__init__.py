"""Row-sharded training: any gradient kernel on each worker, one all-reduce a step.

    with distributed.init() as workers:
        shards = distributed.FileRows(workers, "x.npy", "y.npy", batch_size=10_000)
        history = distributed.fit(workers, model, shards, epochs=16, lr=0.01)

launched by `torchrun --nproc-per-node=2 train.py`; without torchrun it is one worker. Sums go
through torch.distributed: gloo between CPUs, NCCL between CUDA devices.
"""

from .fitting import fit
from .sharding import FileRows, LocalRows, ShardedRows, SyntheticRows
from .steps import METHODS, make_step
from .workers import WorkerError, Workers, init

__all__ = [
    "METHODS",
    "FileRows",
    "LocalRows",
    "ShardedRows",
    "SyntheticRows",
    "WorkerError",
    "Workers",
    "fit",
    "init",
    "make_step",
]
