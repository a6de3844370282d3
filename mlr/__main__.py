"""`python -m mlr`: train the three models side by side and hold them against torch.nn.

Exit 0: the scratch models agree with torch.nn. 1: one differs by more than rounding explains.
2: the input makes no sense. 130: interrupted. 141: the reader of the output has gone.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import torch

from .checks import as_device, as_dtype, check_count, check_lr, check_seed, is_out_of_memory
from .data import DATASETS, Dataset, load_dataset, make_dataset
from .metrics import mape
from .models import EinsumLinearRegression, History, LinearRegression, TorchLinearRegression

MADE = "make_regression"
SIZES = {"samples": 10_100, "features": 6, "targets": 3, "train": 100}
LIMIT_FLOAT64 = 1e-10
MOMENTS = ("before", "after copy", "after training")
QUANTITIES = ("predictions", "weight", "bias")

Models = tuple[LinearRegression, EinsumLinearRegression, TorchLinearRegression]


class Parser(argparse.ArgumentParser):
    """Parse arguments; a wrong one is a `ValueError` of one line, for `main` to print."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print below its usage.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{message}; see python -m mlr --help")


class Difference(NamedTuple):
    """How far one quantity of a model is from torch.nn's: the MAPE in percent and its origin.

    `apart` is the largest absolute difference, `least` the |element| of torch.nn nearest to 0.
    """

    model: str
    moment: str
    quantity: str
    mape: float
    apart: float
    least: float


def limit(dtype: torch.dtype) -> float:
    """Return the MAPE in percent that rounding explains: 1e-10 · eps(dtype) / eps(float64).

    1e-10 percent in float64 and 0.054 percent in float32: 4504 eps in either.
    """
    return LIMIT_FLOAT64 * torch.finfo(dtype).eps / torch.finfo(torch.float64).eps


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = Parser(prog="python -m mlr", description="Train three linear regressions alike.")
    add = parser.add_argument
    add("--dataset", default=MADE, choices=(MADE, *DATASETS), help="default: %(default)s")
    add("--device", help="cpu, cuda or cuda:N; default: torch's own")
    add("--dtype", default="float64", choices=("float32", "float64"), help="default: %(default)s")
    add("--epochs", type=int, default=16, help="default: %(default)s")
    add("--lr", type=float, default=0.01, help="learning rate; default: %(default)s")
    add("--batch", type=int, default=33, help="rows of a mini-batch; default: %(default)s")
    add("--seed", type=int, default=0, help="of data and parameters; default: %(default)s")
    for name, size in SIZES.items():
        add(f"--{name}", type=int, help=f"{MADE} only: its {name}; default: {size}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; a bad input is one line on stderr."""
    try:
        return run(build_parser().parse_args(argv))
    except ValueError as error:
        message = str(error)
    except (MemoryError, OverflowError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        message = f"data and Jacobian must fit in memory; {error}; choose smaller sizes"
    except BrokenPipeError:  # the reader has gone, as in `| head`: say nothing more, at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("interrupted: nothing was kept", file=sys.stderr)
        return 130
    print("error:", " ".join(message.split()), file=sys.stderr)
    return 2


def run(args: argparse.Namespace) -> int:
    """Train, print logs and MAPE, and return 0 where all agree, else 1.

    Raises:
        ValueError: For options out of range, or a training that diverges.
    """
    check_options(args)
    data = load(args)
    models = build_models(args, data)
    found = compare(models, data, MOMENTS[0])
    for model in models:
        model.copy_params(models[-1].layer)
    found += compare(models, data, MOMENTS[1])
    logs = [model.fit(data.x_train, data.y_train, args.epochs, args.lr, args.batch,
                      data.x_valid, data.y_valid) for model in models]  # fmt: skip
    found += compare(models, data, MOMENTS[2])
    print(f"{describe(args, data)}\n\n{side_by_side(models, logs)}\n", flush=True)
    for log in logs:
        refuse_divergence(log, args.lr)
    print(f"MAPE against torch.nn, in percent\n{mape_table(found)}\n")
    verdict = judge(found, limit(as_dtype(args.dtype)))
    print("\n".join(verdict), flush=True)
    return 0 if len(verdict) == 1 else 1


def check_options(args: argparse.Namespace) -> None:
    """Check what argparse does not, before anything is drawn.

    Raises:
        ValueError: For a number out of range, no such device, or sizes where no data are made.
    """
    check_count("--epochs", args.epochs)
    check_count("--batch", args.batch)
    check_lr(args.lr)
    check_seed(args.seed)
    as_device(args.device)
    for name, size in SIZES.items():
        given = getattr(args, name)
        if given is not None and args.dataset != MADE:
            raise ValueError(f"--{name} goes with --dataset {MADE}; got --dataset {args.dataset}; "
                             "leave it out")  # fmt: skip
        setattr(args, name, size if given is None else given)
        check_count(f"--{name}", getattr(args, name))
    if args.dataset == MADE and args.train >= args.samples:
        raise ValueError(
            f"--train must leave rows of --samples for validation; got --train {args.train} of "
            f"--samples {args.samples}; give fewer, or more samples"
        )


def load(args: argparse.Namespace) -> Dataset:
    """Load or make the data that the options name."""
    if args.dataset != MADE:
        return load_dataset(args.dataset, device=args.device, dtype=args.dtype, seed=args.seed)
    return make_dataset(
        n_samples=args.samples,
        n_features=args.features,
        n_targets=args.targets,
        n_train=args.train,
        device=args.device,
        dtype=args.dtype,
        seed=args.seed,
    )


def build_models(args: argparse.Namespace, data: Dataset) -> Models:
    """Make the three models, each with parameters of its own; torch.nn's comes last."""
    sizes = data.x_train.shape[1], data.y_train.shape[1]
    device, dtype = as_device(args.device), as_dtype(args.dtype)
    own = torch.Generator().manual_seed(args.seed)
    return (
        LinearRegression(*sizes, device=device, dtype=dtype, generator=own),
        EinsumLinearRegression(*sizes, device=device, dtype=dtype, generator=own),
        TorchLinearRegression(*sizes, device=device, dtype=dtype, generator=own),
    )


def compare(models: Models, data: Dataset, moment: str) -> list[Difference]:
    """Hold the scratch models against torch.nn: predictions on validation rows, weight, bias."""
    *scratch, reference = models
    expected = reference.predict(data.x_valid), reference.weight, reference.bias
    found = []
    for model in scratch:
        got = model.predict(data.x_valid), model.weight, model.bias
        for quantity, value, true in zip(QUANTITIES, got, expected, strict=True):
            apart, least = float((value - true).abs().max()), float(true.abs().min())
            found.append(
                Difference(type(model).__name__, moment, quantity, mape(value, true), apart, least)
            )
    return found


def judge(found: list[Difference], allowed: float) -> list[str]:
    """Return a line for each difference that is too large and one that sums them up.

    Nothing may differ after `copy_params`, and by no more than `allowed` percent after training.
    """
    limits = {MOMENTS[0]: math.inf, MOMENTS[1]: 0.0, MOMENTS[2]: allowed}
    lines = [
        f"{this.model} {this.moment}: {this.quantity} {this.mape:.2e} percent off, "
        f"{limits[this.moment]:.2g} allowed\n"
        f"  (largest difference {this.apart:.2e}; element nearest to 0 {this.least:.2e})"
        for this in found
        if limits[this.moment] < math.inf and not this.mape <= limits[this.moment]
    ]
    state = "differ from" if lines else "agree with"
    return [*lines, f"The scratch models {state} torch.nn (limit {allowed:.2g} percent)."]


def refuse_divergence(log: History, lr: float) -> None:
    """Check that every loss is finite.

    Raises:
        ValueError: If one is not; the message names the epoch.
    """
    for epoch in log:
        losses = (epoch.mse, epoch.mse_valid or 0.0)
        if not all(map(math.isfinite, losses)):
            raise ValueError(f"training must keep a finite loss; got MSE {epoch.mse} in epoch "
                             f"{epoch.number} at --lr {lr}; lower --lr")  # fmt: skip


def describe(args: argparse.Namespace, data: Dataset) -> str:
    """Say in one line what is trained on what."""
    (rows, n), o = data.x_train.shape, data.y_train.shape[1]
    return (
        f"{args.dataset}: {rows} + {len(data.x_valid)} rows, {n} → {o}, {args.dtype} on "
        f"{data.x_train.device}, seed {args.seed}"
    )


def side_by_side(models: Models, logs: list[History]) -> str:
    """Lay the logs out in columns: MSE and MSE_v of each model, 77 characters wide."""
    lines = [
        "     " + "".join(f"{type(model).__name__:>24}" for model in models),
        "epoch" + f"{'MSE':>12}{'MSE_v':>12}" * len(models),
    ]
    for epochs in zip(*logs, strict=True):
        losses = (loss for epoch in epochs for loss in (epoch.mse, epoch.mse_valid))
        lines.append(f"{epochs[0].number:5}" + "".join(f"{_loss(loss):>12}" for loss in losses))
    return "\n".join(lines)


def mape_table(found: list[Difference]) -> str:
    """Lay the differences out: a line for each model and moment, a column for each quantity."""
    lines = ["model                   moment        " + "".join(f"{q:>13}" for q in QUANTITIES)]
    rows = dict.fromkeys((this.model, this.moment) for this in found)
    for model, moment in sorted(rows, key=lambda row: row[0], reverse=True):
        cells = (f"{this.mape:13.3g}" for this in found if this[:2] == (model, moment))
        lines.append(f"{model:24}{moment:14}" + "".join(cells))
    return "\n".join(lines)


def _loss(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4e}"


if __name__ == "__main__":
    sys.exit(main())
