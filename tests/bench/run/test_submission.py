"""A run file that is sent: an honest one passes, and each doctored one is named with its reason."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from stored_runs import PATHS

from bench.cli.main import main
from bench.run.submission import find_problems
from bench.store.runs import by_time, load_heads

RESULTS = ROOT / "results"
Doctor = Callable[[dict[str, Any]], object]


@cache
def newest() -> Path:
    """Return the newest stored run of the grid quick on a processor."""
    heads = load_heads(PATHS)
    *_, last = (path for path in by_time(heads) if heads[path].settings["grid"] == "quick"
                and heads[path].machine.gpu is None)  # fmt: skip
    return last


def doctored(change: Doctor, folder: Path) -> list[str]:
    """Return what is found in a copy of a stored run after a change."""
    run = json.loads(newest().read_text(encoding="utf-8"))
    change(run)
    path = folder / newest().parent.name / newest().name
    path.parent.mkdir()
    path.write_text(json.dumps(run), encoding="utf-8")
    return find_problems(path, RESULTS)


def step(run: dict[str, Any], kernel: str = "one_pass_step") -> dict[str, Any]:
    """Return the entry of a step in the run."""
    found: dict[str, Any] = next(
        one for one in run["benchmarks"] if one["extra_info"]["kernel"] == kernel
    )
    return found


def each_sample(one: dict[str, Any], **factors: float) -> None:
    samples = one["samples"]
    for name, factor in factors.items():
        if isinstance(samples, dict):  # columns, as newer runs have them
            samples[name] = [factor * value for value in samples[name]]
        else:
            for sample in samples:
                sample[name] *= factor


def halve_a_time(run: dict[str, Any]) -> None:
    step(run)["extra_info"]["paired_s"] /= 2


def halve_times_of_samples(run: dict[str, Any]) -> None:
    one = step(run)
    each_sample(one, paired_s=0.5)
    one["extra_info"]["paired_s"] /= 2


def slow_the_baseline(run: dict[str, Any]) -> None:
    one = step(run, "torch_nn")
    each_sample(one, paired_s=2.0)
    one["extra_info"]["paired_s"] *= 2


def raise_a_speedup(run: dict[str, Any]) -> None:
    step(run)["extra_info"] |= {"speedup": 1e4, "speedup_high": 2e4}


def hide_a_failure(run: dict[str, Any]) -> None:
    next(one for one in run["outcomes"] if one["status"] != "ok")["status"] = "ok"


def fail_another(run: dict[str, Any]) -> None:
    name = step(run)["fullname"]
    next(one for one in run["outcomes"] if one["fullname"] == name)["status"] = "wrong"


def raise_ceilings(run: dict[str, Any]) -> None:
    for found in run["machine"]["ceilings"].values():
        found["flops_per_s"] = dict.fromkeys(found["flops_per_s"], 1e13)


def raise_ceilings_a_little(run: dict[str, Any]) -> None:
    for found in run["machine"]["ceilings"].values():
        found["dispatch_s"] /= 1.5
        found["flops_per_s"] = {name: 1.2 * rate for name, rate in found["flops_per_s"].items()}


def write_markup(run: dict[str, Any]) -> None:
    run["machine"]["cpu"] = "<script>alert(1)</script>"


def write_markup_into_a_name(run: dict[str, Any]) -> None:
    run["packages"]["<img src=x onerror=alert(1)>"] = "1"


def forget_a_warning(run: dict[str, Any]) -> None:
    each_sample(step(run), cpu_utilisation=0.1)


def leave_changes(run: dict[str, Any]) -> None:
    run["commit_info"]["dirty"] = True


def be_of_another_commit(run: dict[str, Any]) -> None:
    run["commit_info"]["id"] = run["commit_info"]["id"][:8] + 32 * "0"


def add_a_kernel(run: dict[str, Any]) -> None:
    name = step(run)["fullname"]
    own = [step(run)["extra_info"], *(o for o in run["outcomes"] if o["fullname"] == name)]
    for part in own:
        part["kernel"] = "miraculous"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (halve_a_time, "says other than its samples: paired_s"),
        (halve_times_of_samples, "one baseline; by paired_s of bench_kernel[step-one_pass_step"),
        (slow_the_baseline, "by paired_s of"),
        (raise_a_speedup, "says other than its samples: speedup, speedup_high"),
        (hide_a_failure, "an ok outcome must have a benchmark"),
        (fail_another, "only an ok outcome has a benchmark"),
        (raise_ceilings, "beyond any processor's"),
        (raise_ceilings_a_little, "roofline"),
        (forget_a_warning, "warnings (without 'idle while timed"),
        (write_markup, "a text is plain; machine.cpu has"),
        (write_markup_into_a_name, "a text is plain; a name in packages has"),
        (leave_changes, "had uncommitted changes"),
        (be_of_another_commit, "its commit must be one of this repository"),
        (add_a_kernel, "its kernels are this repository's; miraculous is not"),
    ],
)
def test_what_was_changed_is_named(change: Doctor, reason: str, tmp_path: Path) -> None:
    found = doctored(change, tmp_path)
    assert any(reason in problem for problem in found), found
    assert not any("\n" in problem for problem in found)


def test_an_honest_run_can_be_sent(capsys: pytest.CaptureFixture[str]) -> None:
    assert find_problems(newest(), RESULTS) == []
    assert main(["submit", str(newest())]) == 0
    assert "1 run file can be sent" in capsys.readouterr().out


def test_what_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (large := tmp_path / "large.json").write_text(" " * 2_000_001)
    (other := tmp_path / "other.json").write_text("[]")
    assert main(["submit", str(large), str(other), str(tmp_path / "none.json")]) == 1
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert "at most" in said[0]
