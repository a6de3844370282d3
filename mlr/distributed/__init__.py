"""Row-sharded training: any gradient kernel on each worker, one all-reduce a step.

    with distributed.join() as workers:
        shards = distributed.Files(workers, "x.npy", "y.npy", batch_size=10_000)
        history = distributed.fit(workers, model, shards, epochs=16, lr=0.01)

launched by `torchrun --nproc-per-node=2 train.py`; without torchrun it is one worker. Sums go
through torch.distributed: gloo between CPUs, NCCL between CUDA devices.
"""

from .fitting import METHODS, fit, make_step
from .sharding import Files, Made, Own, Shards
from .workers import WorkerError, Workers, join

__all__ = [
    "METHODS",
    "Files",
    "Made",
    "Own",
    "Shards",
    "WorkerError",
    "Workers",
    "fit",
    "join",
    "make_step",
]
