"""Run by test_convergence.py: the worker without trainers that compile, which take the longest."""

import sys

from bench.convergence import worker

FEW = ("TorchLinearRegression", "auto_step", "sklearn LinearRegression")

if __name__ == "__main__":
    for name in set(worker.TRAINERS) - set(FEW):
        del worker.TRAINERS[name]
    worker.main(*sys.argv[1:])
