"""What a run says of its machine: with a GPU more than without, whose history goes on."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from paths import ROOT

from bench.analysis.compare import kind_of
from bench.machine import info
from bench.store.runs import find_runs, load_heads

VARIABLES = {
    "CUDA_VISIBLE_DEVICES": "1", "NVIDIA_TF32_OVERRIDE": "0", "PYTORCH_ALLOC_CONF": "a:b",
    "XLA_FLAGS": "--c", "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}  # fmt: skip


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in VARIABLES.items():
        monkeypatch.setenv(name, text)


@pytest.mark.usefixtures("variables")
def test_without_an_accelerator_its_settings_are_none_of_the_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or each stored run of such a machine would be kept apart from the next."""
    monkeypatch.setattr(info, "accelerator", lambda: None)
    heads = load_heads(find_runs(ROOT / "results" / "runs"))
    newest = max(heads.values(), key=lambda head: head.datetime)
    of_run = {"grid", "processes"}
    assert set(info.settings()) == set(newest.settings) - of_run
    assert not {"cuda", "gpu-driver", "nvidia-cublas"} & set(info.packages())
    there = newest.model_copy(update={"settings": {**newest.settings, "gpu": {"mig": False}}})
    assert kind_of(there) != kind_of(newest)


@pytest.mark.usefixtures("variables")
def test_with_a_gpu_its_settings_variables_and_driver_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = SimpleNamespace(settings=lambda: {"power_limit_w": 700.0}, driver=lambda: "580.1")
    here = SimpleNamespace(gpu=lambda: gpu)
    versions = {"nvidia-cublas": "13.1.0.3", "torch": "2.13.0"}

    def version(name: str) -> str:
        if name in versions:
            return versions[name]
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(info, "accelerator", lambda: here)
    monkeypatch.setattr(info, "version", version)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert info.settings()["gpu"] == {"power_limit_w": 700.0, "environment": VARIABLES}
    found = info.packages()
    assert (found["cuda"], found["gpu-driver"]) == ("13.0", "580.1")
    assert found["nvidia-cublas"] == "13.1.0.3"
    monkeypatch.setattr(here, "gpu", lambda: None)  # one that NVML does not know
    assert info.settings()["gpu"] == {"environment": VARIABLES}
    assert "gpu-driver" not in info.packages()


def test_a_container_that_allows_tf32_does_not_where_is_measured(tmp_path: Path) -> None:
    tell = "print(torch.get_float32_matmul_precision() != 'highest')"
    code = f"import torch; {tell}; import bench.measure.benchmark; {tell}"
    surroundings: dict[str, Any] = {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=surroundings, text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert done.stdout.split() == ["True", "False"], done.stderr
