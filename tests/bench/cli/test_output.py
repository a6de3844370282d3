"""What a command found, as text, as one JSON document, or as paths alone."""

import json
import os
import pty
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest
from run_builder import FEW_KERNELS, build_run, fail, save

from bench.cli.commands import machine, plan
from bench.cli.commands import run as run_command
from bench.cli.main import main
from bench.common.errors import UserError
from bench.run.journal import RunProgress
from bench.store.schema import Ceilings

SIZES = ((33, 6, 3), (100, 6, 3))
ASKED = ["run", "--grid=smoke", "--operation=gradient", "--kernel=matmul", "--device=cpu"]
NOISY = """
import sys
from mlr import Gradient, kernel

print("a kernel file may print what it likes")
print("also here", file=sys.stderr)

@kernel(operation="gradient", flops=lambda m, n, o, s: m, bytes_moved=lambda m, n, o, s: m,
        workspace=lambda m, n, o, s: 0)
def talkative(x, delta):
    return Gradient(x.T @ delta, delta.sum(0))
"""
Ran = Callable[..., Path]


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `run` stores: it measures nothing, shows its progress, and prints on both streams."""
    run = build_run(["gradient"], SIZES, kernels=FEW_KERNELS, processes=3)
    fail(run, run["outcomes"][-1], "crashed", "out of luck")
    path = save(run, tmp_path / "runs" / "here" / "a.json")

    def run_plan(*given: Any, say: Callable[[str], None], **_: Any) -> Path:
        given[3](RunProgress(10, 3, process=1, statuses={"ok": 1}, wall_s=9.0, left_s=21.0))
        say("a note")
        print("a library talks")
        return path

    monkeypatch.setattr(run_command, "run_plan", run_plan)
    monkeypatch.setattr(run_command, "require_tried", lambda _: None)
    return path


def test_a_run_ends_with_its_answers_and_what_to_do_next(
    stored: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = stored.parents[2]
    assert main([*ASKED, f"--out={out}"]) == 1  # as something crashed
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        f"Stored {stored}",
        f"`python -m bench report --out {out}` writes its report, with figures.",
    ]
    assert max(len(line) for line in lines if str(out) not in line) <= 80
    told = "\n".join(lines[lines.index("Answers: amd-epyc-2-core, cpu, 1 thread") :])
    for said in (
        "Which kernel for a gradient? ",
        "× as fast as autograd",
        "1 crashed",
        "out of luck",
    ):
        assert said in told
    assert "*" not in told


def test_json_is_one_document_and_nothing_else(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ASKED, "--json"]) == 1
    shown = capsys.readouterr()
    found = json.loads(shown.out, parse_constant=pytest.fail)
    assert found["run"] == str(stored)
    assert {row["status"] for row in found["results"]} == {"ok", "crashed"}
    (crashed,) = (row for row in found["results"] if row["status"] == "crashed")
    assert crashed["median_s"] is None
    assert crashed["batch"] == 100
    for said in ("benchmarks: ", " to run\n", "a note", "a library talks", "1 benchmark: 1 ok"):
        assert said in shown.err


def test_quiet_is_the_path_and_nothing_else(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ASKED, "--quiet"]) == 1
    assert capsys.readouterr() == (f"{stored}\n", "")


@pytest.mark.parametrize("form", ["--json", "--quiet"])
def test_an_error_is_one_line_in_every_form(
    form: str,
    stored: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise UserError("a disk must have room; it is full; free space")

    monkeypatch.setattr(run_command, "run_plan", fails)
    assert main([*ASKED, form]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.endswith("error: a disk must have room; it is full; free space\n")
    assert form != "--quiet" or shown.err.count("\n") == 1


def test_both_forms_at_once_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--json", "--quiet"])
    assert ended.value.code == 2
    assert "not allowed with argument --json" in capsys.readouterr().err


def test_what_a_kernel_file_prints_is_kept_out_of_a_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "measure_ceilings", lambda _: Ceilings(dispatch_s=1e-6))
    monkeypatch.setattr(plan, "seconds_per_sample", lambda *_: (2.0, tmp_path / "here" / "a.json"))
    (tmp_path / "noisy.py").write_text(NOISY)
    asked = [f"--kernel-file={tmp_path / 'noisy.py'}", "--kernel=talkative", "--batch=100,200"]
    assert main(["plan", *asked, "--device=cpu", "--processes=3", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out, parse_constant=pytest.fail)
    assert {row["kernel"] for row in found["benchmarks"]} == {"talkative"}
    assert {row["status"] for row in found["benchmarks"]} == {"to run"}
    assert found["about_s"] == [len(found["benchmarks"]) * (1 + 3) * 2.0] * 2
    assert "a kernel file may print what it likes" in shown.err


def test_a_machine_is_told_in_both_forms_within_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = Ceilings(dispatch_s=1e-6, bandwidth_bytes_per_s=[[32_768, 9e10]])
    monkeypatch.setattr(machine, "measure_ceilings", lambda _: known)
    monkeypatch.setattr(machine, "unavailable_reason", lambda name: None if name == "cpu" else "-")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["machine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["machine"]["memory_bytes"] > 2**20
    (ceilings,) = found["ceilings"].values()
    assert ceilings["bandwidth_bytes_per_s"] == [[32_768, 9e10]]
    assert main(["machine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(f"{found['machine']['slug']}, ")
    text = "\n".join(lines)
    assert re.search(r"memory +[\d.,]+ [KMGT]iB", text)
    assert re.search(r"bandwidth, 32.0 KiB +90 GB/s", text)
    assert "None" not in text


def on_a_terminal(command: list[str], monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """Return what a command shows on a terminal of 80 columns."""
    for name in ("NO_COLOR", "FORCE_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    for name, text in {"COLUMNS": "80", "TERM": "xterm-256color", **variables}.items():
        monkeypatch.setenv(name, text)
    ours, theirs = pty.openpty()

    def read() -> bytes:
        seen = b""
        with suppress(OSError):  # by which Linux says that the other end is closed
            while part := os.read(ours, 65_536):
                seen += part
        return seen

    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(read)
        with (
            os.fdopen(theirs, "w", encoding="utf-8") as terminal,
            redirect_stdout(terminal),
            redirect_stderr(terminal),
        ):
            status = main(command)
    os.close(ours)
    assert status == 0, seen.result()
    return seen.result().decode().replace("\r\n", "\n")


def test_a_comparison_on_a_terminal_fits_and_has_colours_where_they_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [build_run(["step"], SIZES, processes=5) for _ in range(2)]
    for entry in runs[1]["benchmarks"]:
        if entry["extra_info"]["kernel"] == "fused_addmm":
            for key in ("speedup", "speedup_low", "speedup_high"):
                entry["extra_info"][key] *= 0.5
    named = zip("ab", runs, strict=True)
    paths = [str(save(run, tmp_path / f"{name}.json")) for name, run in named]
    command = ["report", "--compare", *paths]
    shown = on_a_terminal(command, monkeypatch)
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "Run b against a, on amd-epyc-2-core"
    rows = [line for line in shown.splitlines() if "fused_addmm" in line]
    assert len(rows) == 2
    assert all("slower" in line and "\x1b[31m" in line for line in rows)
    plain = on_a_terminal(command, monkeypatch, NO_COLOR="1")
    assert not re.search(r"\x1b\[[\d;]*3[0-7]m", plain)
    found = json.loads(on_a_terminal([*command, "--json"], monkeypatch), parse_constant=pytest.fail)
    assert {row["verdict"] for row in found["cases"]} >= {"slower", "no significant change"}
