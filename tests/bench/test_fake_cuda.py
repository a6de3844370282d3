"""Plan, run, report and gate on `cuda`, where a device that is the CPU stands in for a GPU."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import fake_cuda
import pandas as pd
import pytest
from fake_cuda import run_module
from paths import ROOT
from reports import blank_figures

from bench.cli.main import main
from bench.store.runs import find_runs, load_frame, load_run
from mlr import KERNELS

KERNELS_ON_CUDA = [one for one in KERNELS.values() if "cuda" in one.devices and not one.peer]
TRITONS = {"one_pass_triton", "one_pass_triton_gradient"}
NAMES = [one.name for one in KERNELS_ON_CUDA if one.name not in TRITONS]
JACOBIANS = {"factored_einsum", "full_jacobian", "jacrev", "kron_einsum"}
COMPARED = ("matmul", "fused_addmm")
SMOKE = ("--device=cuda", "--grid=smoke")
SIZE = ("--batch=33", "--features=6", "--outputs=3")


class Stored(NamedTuple):
    """A run, where it was stored, and how it ended."""

    folder: Path
    done: subprocess.CompletedProcess[str]

    @property
    def frame(self) -> pd.DataFrame:
        """The run's results, by kernel and batch."""
        return load_frame(find_runs(self.folder / "runs")).set_index(["kernel", "batch"])


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """Run all kernels that a GPU takes, but those of Triton, each at one size."""
    return run_smoke(NAMES, tmp_path_factory.mktemp("results"), *SIZE)


def run_smoke(names: Iterable[str], folder: Path, *more: str, triton: bool = False) -> Stored:
    told = (*SMOKE, f"--kernel={','.join(names)}", *more, "--processes=1", f"--out={folder}")
    return Stored(folder, run_module("bench", "run", *told, triton=triton))


def every_kernel_is_measured_where_it_fits(stored: Stored) -> None:
    assert stored.done.returncode == 0, stored.done.stderr + stored.done.stdout
    found = stored.frame
    assert {*found.index.get_level_values("kernel")} == {*NAMES}
    assert (found["device"] == "cuda").all()
    wide = found[found["out_features"] == 4_096].droplevel("batch")
    statuses = dict.fromkeys(wide.index, "ok") | dict.fromkeys(JACOBIANS, "infeasible")
    assert wide.empty or dict(wide["status"]) == statuses
    others = found[found["out_features"] != 4_096]
    assert (others["status"] == "ok").all(), others[["case", "status", "reason"]]
    measured = found[found["status"] == "ok"]
    numbers = ["median_s", "peak_bytes", "max_rel_error", "roofline_s", "first_call_s"]
    assert measured[numbers].notna().all(axis=None)


def test_every_kernel_is_measured(stored: Stored) -> None:
    every_kernel_is_measured_where_it_fits(stored)


@pytest.mark.slow
def test_every_kernel_is_measured_in_the_smoke_grid_where_it_fits(tmp_path: Path) -> None:
    every_kernel_is_measured_where_it_fits(run_smoke(NAMES, tmp_path))


def test_a_plan_of_the_smoke_grid_leaves_out_only_what_does_not_fit() -> None:
    done = run_module("bench", "plan", *SMOKE, f"--kernel={','.join(NAMES)}", "--json")
    assert done.returncode == 0, done.stderr
    planned = json.loads(done.stdout)["benchmarks"]
    assert {one["status"] for one in planned} == {"to run", "infeasible"}
    left_out = {(one["kernel"], one["out_features"])
                for one in planned if one["status"] == "infeasible"}  # fmt: skip
    assert left_out == {(name, 4_096) for name in JACOBIANS}
    assert len(planned) > 2 * len(NAMES)


@pytest.mark.slow
def test_the_smoke_grid_is_run_with_tritons_kernels_by_their_interpreter(tmp_path: Path) -> None:
    stored = run_smoke(TRITONS, tmp_path, triton=True)
    assert stored.done.returncode == 0, stored.done.stderr + stored.done.stdout
    wide = stored.frame["out_features"] == 4_096
    assert list(stored.frame.loc[wide, "status"]) == ["unsupported"]
    assert (stored.frame.loc[~wide, "status"] == "ok").all()


def test_the_memory_of_a_call_is_its_formulas(stored: Stored) -> None:
    """Of what torch allocates in the call; a graph has it, and its start, from its capture on."""
    found = stored.frame.loc[[("matmul", 33), ("fused_addmm", 33), ("torch_nn", 33)]]
    assert list(found["peak_bytes"]) == list(found["predicted_peak_bytes"])
    assert stored.frame.loc[("cuda_graph", 33), "peak_bytes"] > 33 * 3 * 8
    said = " ".join(found["warnings"].dropna())  # of times it may say anything
    assert not [word for word in ("peak", "leaks", "outside torch") if word in said], said


def test_a_run_says_on_which_device_it_was(stored: Stored) -> None:
    (path,) = find_runs(stored.folder / "runs")
    run = load_run(path)
    assert run.machine.gpu == fake_cuda.PROPERTIES.name
    assert run.machine.slug.endswith("nvidia-fake")
    assert run.machine.ceilings_of("cuda", 1).last_cache_bytes == fake_cuda.PROPERTIES.L2_cache_size


def test_a_report_shows_it(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    blank_figures(monkeypatch)
    assert main(["report", f"--out={stored.folder}"]) == 0
    text = (stored.folder / "report" / "report.html").read_text(encoding="utf-8")
    for name in NAMES:
        assert name in text
    assert "cuda" in text


def test_a_gate_compares_versions_on_the_device(tmp_path: Path) -> None:
    """Both are right, and each case is timed; what its times say is not for a test to ask."""
    chosen = (*SMOKE, f"--kernel={','.join(COMPARED)}", *SIZE)
    done = run_module("short_gate", str(ROOT), *chosen, f"--out={tmp_path}")
    assert done.returncode != 2, done.stderr
    told: dict[str, Any] = json.loads((tmp_path / "gate.json").read_text())
    assert {one["benchmark"]["kernel"] for one in told["cases"]} == set(COMPARED)
    for one in told["cases"]:
        assert one["benchmark"]["case"]["device"] == "cuda"
        assert not [failed for failed in one["failures"] if failed["metric"] != "first_call_s"]
        assert any("log_ratio" in block.get(one["name"], {}) for block in told["blocks"]), one
