"""What machine this is, how it is set, and which packages it has."""

import os
import platform
import re
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil
import torch
from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info

from mlr.tuning import current_table

from .devices import accelerator, accelerator_name

PACKAGES = (
    "torch", "numpy", "scipy", "scikit-learn", "pytest", "pytest-benchmark", "pandas", "matplotlib",
    "jaxtyping", "triton", "numba", "jax", "jaxlib",
)  # fmt: skip
ALLOCATOR_SETTINGS = (
    "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_ARENA_MAX",
    "LD_PRELOAD", "PYTORCH_CUDA_ALLOC_CONF",
)  # fmt: skip
OMP_SETTINGS = ("OMP_WAIT_POLICY", "OMP_PROC_BIND", "OMP_PLACES")
# What steers an accelerator and its libraries; of XLA every variable.
ACCELERATOR_SETTINGS = (
    "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "CUDA_MODULE_LOADING",
    "CUDA_DEVICE_MAX_CONNECTIONS", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "PYTORCH_ALLOC_CONF",
)  # fmt: skip
CUBLAS_PACKAGES = ("nvidia-cublas", "nvidia-cublas-cu12")  # by the release of CUDA


@cache
def generated_machine_info() -> dict[str, Any]:
    """Return what pytest-benchmark says of the machine, for which it starts other programs."""
    return dict(pytest_benchmark_generate_machine_info())


def cpu_name() -> str:
    """Name the processor."""
    found = generated_machine_info()["cpu"].get("brand_raw")
    return str(found or platform.processor() or "unknown cpu")


def machine_slug() -> str:
    """Return the folder name of this machine's runs: processor, cores and GPU."""
    name = f"{cpu_name()} {psutil.cpu_count(logical=True)}-core {accelerator_name() or ''}"
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", name.lower())).strip("-")


def machine_info() -> dict[str, Any]:
    """Describe the machine, without its ceilings."""
    return {
        "slug": machine_slug(),
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": accelerator_name(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def settings() -> dict[str, Any]:
    """Describe what the same machine can be set to, and was."""
    rule = current_table()
    return {
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        **{name.lower(): os.environ.get(name) for name in OMP_SETTINGS},
        "allocator": {name: os.environ[name] for name in ALLOCATOR_SETTINGS if name in os.environ},
        "tf32": torch.get_float32_matmul_precision() != "highest",
        "flush_denormals": float(torch.tensor(1e-310, dtype=torch.float64) * 1.0) == 0.0,
        "gc_while_timing": False,
        "tuning_table": {"cases": len(rule.fastest), "part_flops": rule.part_flops},
        **_accelerator_settings(),
    }


def _accelerator_settings() -> dict[str, Any]:
    """Return what an accelerator is set to, and its variables; nothing where there is none.

    Runs of a machine without one so keep the settings, and the history, that they have.
    """
    if (here := accelerator()) is None:
        return {}
    gpu, of_xla = here.gpu(), (name for name in os.environ if name.startswith("XLA_"))
    names = [name for name in ACCELERATOR_SETTINGS if name in os.environ]
    variables = {name: os.environ[name] for name in [*names, *sorted(of_xla)]}
    return {"gpu": (gpu.settings() if gpu else {}) | {"environment": variables}}


def packages() -> dict[str, str]:
    """Return the versions of everything whose version can move a number.

    An accelerator's driver and libraries are among them, where there is one.
    """
    found = {"python": sys.version.split()[0]}
    here = accelerator()
    for name in (*PACKAGES, *(CUBLAS_PACKAGES if here else ())):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    if here is not None:
        gpu, toolkit = here.gpu(), torch.version.cuda or torch.version.hip
        told = {"cuda": toolkit, "gpu-driver": gpu.driver() if gpu else None}
        found |= {name: text for name, text in told.items() if text}
    return found | {"torch": torch.__version__}
