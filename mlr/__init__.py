"""mlr: kernels for the gradient of a multi-output linear layer, and three models that use them."""

from . import fits, gradients, peer_fits, peers, steps
from .case import OPERATIONS, Case, Gradient, Operation, Probe, Problem, register_operation
from .data import Dataset, load_dataset, make_dataset
from .functional import bind_step, gradient, step
from .metrics import mape
from .models import EinsumLinearRegression, History, LinearRegression, TorchLinearRegression
from .oracle import Check, check, check_on_other_inputs, check_result, tolerance
from .registry import (
    KERNELS,
    Kernel,
    KernelFileError,
    get_kernel,
    kernel,
    load_installed,
    load_kernels,
)
from .streaming import Batches

__all__ = [
    "KERNELS",
    "OPERATIONS",
    "Batches",
    "Case",
    "Check",
    "Dataset",
    "EinsumLinearRegression",
    "Gradient",
    "History",
    "Kernel",
    "KernelFileError",
    "LinearRegression",
    "Operation",
    "Probe",
    "Problem",
    "TorchLinearRegression",
    "bind_step",
    "check",
    "check_on_other_inputs",
    "check_result",
    "fits",
    "get_kernel",
    "gradient",
    "gradients",
    "kernel",
    "load_dataset",
    "load_installed",
    "load_kernels",
    "make_dataset",
    "mape",
    "peer_fits",
    "peers",
    "register_operation",
    "step",
    "steps",
    "tolerance",
]
