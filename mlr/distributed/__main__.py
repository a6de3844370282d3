"""Train over workers: `torchrun --nproc-per-node=2 -m mlr.distributed --x x.npy --y y.npy`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..models import LinearRegression
from . import METHODS, FileRows, ShardedRows, SyntheticRows, WorkerError, Workers, fit, init
from .workers import JOIN_S, TIMEOUT_S


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="mlr.distributed", description=__doc__)
    parser.add_argument("--x", type=Path, help="a .npy file of X (m, n)")
    parser.add_argument("--y", type=Path, help="a .npy file of Y (m, o)")
    parser.add_argument(
        "--made", type=int, nargs=3, metavar=("M", "N", "O"), help="make M rows of N → O instead"
    )
    parser.add_argument("--epochs", type=int, default=1, help="default: 1")
    parser.add_argument("--lr", type=float, default=0.01, help="default: 0.01")
    parser.add_argument("--batch-size", type=int, help="rows of a step, all workers (default: all)")
    parser.add_argument("--piece-rows", type=int, help="most rows in memory (default: a step's)")
    parser.add_argument(
        "--kernel", default="matmul", help="of operation gradient (default: matmul)"
    )
    parser.add_argument("--method", choices=METHODS, default="kernel", help="default: kernel")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of parameters and made rows")
    parser.add_argument("--checkpoint", type=Path, help="a file to go on from, and to keep")
    parser.add_argument("--every", type=int, default=100, help="steps between two (default: 100)")
    parser.add_argument("--join", type=float, default=JOIN_S, help="seconds to wait for a worker")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds to wait in a sum")
    parser.add_argument("--out", type=Path, help="a .npz file for weight and bias")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the command line says; a failure is one line of each worker, and status 1."""
    arguments = make_parser().parse_args(argv)
    rank = os.environ.get("RANK", "0")
    try:
        with init(arguments.device, join_s=arguments.join, timeout_s=arguments.timeout) as workers:
            _train(workers, arguments)
    except (WorkerError, ValueError, OSError) as error:
        sys.stderr.write(f"rank {rank}: error: {error}\n")  # at once: others write there too
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"rank {rank}: stopped\n")
        return 130
    return 0


def _train(workers: Workers, arguments: argparse.Namespace) -> None:
    shards = _shards(workers, arguments)
    model = LinearRegression(
        shards.features,
        shards.outputs,
        kernel=arguments.kernel,
        device=workers.device,
        dtype=shards.dtype,
        generator=torch.Generator().manual_seed(arguments.seed),
    )
    fit(
        workers,
        model,
        shards,
        arguments.epochs,
        arguments.lr,
        method=arguments.method,
        checkpoint=arguments.checkpoint,
        every=arguments.every,
        verbose=True,
    )
    if workers.rank == 0 and arguments.out is not None:
        np.savez(arguments.out, weight=model.weight.cpu().numpy(), bias=model.bias.cpu().numpy())


def _shards(workers: Workers, arguments: argparse.Namespace) -> ShardedRows:
    sizes = {"batch_size": arguments.batch_size, "piece_rows": arguments.piece_rows}
    if arguments.made is not None and arguments.x is None and arguments.y is None:
        return SyntheticRows(
            workers, *arguments.made, **sizes, seed=arguments.seed, dtype=arguments.dtype
        )
    if arguments.made is None and arguments.x is not None and arguments.y is not None:
        return FileRows(workers, arguments.x, arguments.y, **sizes, dtype=arguments.dtype)
    raise ValueError("rows come from --x and --y, or from --made; give either")


if __name__ == "__main__":
    sys.exit(main())
