"""Runs, report and gate on `cuda`, where a device that is the CPU stands in for a GPU."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fake_cuda
import pandas as pd
import pytest
from fake_cuda import run_module
from paths import ROOT

from bench.store.runs import find_runs, load_frame, load_run
from mlr import KERNELS

SIZE = ("--batch=33", "--features=3", "--outputs=2")
ON_CUDA = [one for one in KERNELS.values() if "cuda" in one.devices and not one.peer]
ALONE = [one.name for one in ON_CUDA if one.devices == ("cuda",)]  # that no processor takes
CHOSEN = ["autograd", "matmul", "torch_nn", "fused_addmm"]
CHOSEN += [name for name in ALONE if "triton" not in name]
COMPARED = ("matmul", "fused_addmm")


class Stored(NamedTuple):
    """A run, where it was stored, and how it ended."""

    folder: Path
    done: subprocess.CompletedProcess[str]

    @property
    def frame(self) -> pd.DataFrame:
        """The run's results, by kernel."""
        return load_frame(find_runs(self.folder / "runs")).set_index("kernel")


def run_on_cuda(folder: Path, kernels: Sequence[str]) -> Stored:
    named = ("--operation=gradient,step", f"--kernel={','.join(kernels)}", *SIZE)
    told = ("run", "--device=cuda", *named, "--processes=1", f"--out={folder}")
    done = run_module("bench", *told)
    return Stored(folder, done)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return run_on_cuda(tmp_path_factory.mktemp("results"), CHOSEN)


def test_a_run_measures_every_kernel_on_the_device(stored: Stored) -> None:
    assert stored.done.returncode == 0, stored.done.stderr + stored.done.stdout
    found = stored.frame
    assert dict(found["status"]) == dict.fromkeys(CHOSEN, "ok"), stored.done.stdout
    assert (found["device"] == "cuda").all()
    numbers = ["median_s", "peak_bytes", "max_rel_error", "roofline_s", "first_call_s"]
    assert found[numbers].notna().all(axis=None)


def test_the_memory_of_a_call_is_its_formulas(stored: Stored) -> None:
    """Of what torch allocates in the call; a graph has it, and its start, from its capture on."""
    found = stored.frame.loc[["matmul", "fused_addmm", "torch_nn"]]
    assert list(found["peak_bytes"]) == list(found["predicted_peak_bytes"])
    assert stored.frame.loc["cuda_graph", "peak_bytes"] > 33 * 2 * 8
    said = " ".join(stored.frame["warnings"].dropna())  # of times it may say anything
    assert not [word for word in ("peak", "leaks", "outside torch") if word in said], said


def test_a_run_says_on_which_device_it_was(stored: Stored) -> None:
    (path,) = find_runs(stored.folder / "runs")
    run = load_run(path)
    assert run.machine.gpu == fake_cuda.PROPERTIES.name
    assert run.machine.slug.endswith("nvidia-fake")
    assert run.machine.ceilings_of("cuda", 1).last_cache_bytes == fake_cuda.PROPERTIES.L2_cache_size


def test_a_report_shows_it(stored: Stored) -> None:
    done = run_module("bench", "report", f"--out={stored.folder}")
    assert done.returncode == 0, done.stderr
    text = (stored.folder / "report" / "report.html").read_text(encoding="utf-8")
    for name in CHOSEN:
        assert name in text
    assert "cuda" in text


def test_a_gate_compares_versions_on_the_device(tmp_path: Path) -> None:
    """Both are right, and each case is timed; what its times say is not for a test to ask."""
    chosen = ("--device=cuda", f"--kernel={','.join(COMPARED)}", "--operation=gradient,step", *SIZE)
    done = run_module("short_gate", str(ROOT), *chosen, f"--out={tmp_path}")
    assert done.returncode != 2, done.stderr
    told: dict[str, Any] = json.loads((tmp_path / "gate.json").read_text())
    assert {one["benchmark"]["kernel"] for one in told["cases"]} == set(COMPARED)
    for one in told["cases"]:
        assert one["benchmark"]["case"]["device"] == "cuda"
        assert not [failed for failed in one["failures"] if failed["metric"] != "first_call_s"]
        assert any("log_ratio" in block.get(one["name"], {}) for block in told["blocks"]), one


@pytest.mark.slow
def test_tritons_kernels_run_by_its_interpreter(tmp_path: Path) -> None:
    kernels = [name for name in ALONE if "triton" in name]
    found = run_on_cuda(tmp_path, ["autograd", "torch_nn", *kernels])
    assert found.done.returncode == 0, found.done.stderr + found.done.stdout
    assert dict(found.frame.loc[kernels, "status"]) == dict.fromkeys(kernels, "ok")


@pytest.mark.slow
def test_the_smoke_grid_leaves_out_only_what_does_not_fit(tmp_path: Path) -> None:
    """Without Triton's kernels, whose interpreter takes minutes for thousands of outputs."""
    kernels = ",".join(one.name for one in ON_CUDA if "triton" not in one.name)
    told = ("--grid=smoke", f"--kernel={kernels}", "--processes=1", f"--out={tmp_path}")
    done = run_module("bench", "run", "--device=cuda", *told)
    assert done.returncode == 0, done.stdout
    found = load_frame(find_runs(tmp_path / "runs"))
    left_out = found[found["status"] != "ok"]
    assert set(left_out["status"]) == {"infeasible"}, left_out[["kernel", "case", "reason"]]
    assert set(left_out["case"]) == {"100x16x4096"}
