"""mlr: kernels for the gradient of a multi-output linear layer, and three models that use them."""

from . import fits, gradients, peer_fits, peers, steps
from .case import Case, Gradient, Problem
from .data import Dataset, load_dataset, make_dataset
from .declaration import OPERATIONS, Operation, Probe, register_operation
from .functional import bind_step, gradient, step
from .kernel_files import KernelFileError, load_installed, load_kernels
from .metrics import mape
from .models import EinsumLinearRegression, History, LinearRegression, TorchLinearRegression
from .oracle import Check, check, check_on_other_inputs, check_result, tolerance
from .own_operation import operation
from .registry import KERNELS, Kernel, baseline_of, get_kernel, kernel
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
    "baseline_of",
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
    "operation",
    "peer_fits",
    "peers",
    "register_operation",
    "step",
    "steps",
    "tolerance",
]
