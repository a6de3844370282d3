"""Processes of a gate: what they say, what they cost when they end, and the worker itself."""

import json
import math
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from versions import MINE, WORSE, copy_package, forgetting_versions

import mlr
from bench.common.errors import UserError
from bench.gate import worker
from bench.gate.blocks import (
    BASE,
    CONTROL,
    HEAD,
    SPEC,
    CrashError,
    KernelCase,
    Spec,
    measure_block,
    run_block,
    started,
)
from bench.gate.versions import KERNEL_FILE_DIR
from bench.machine.devices import Device
from mlr import Case

CASE = Case("gradient", "cpu", "float64", 40, 5, 4)
# What a measuring process of a version says, without the version.
SERVES = """
import json, os, sys
def say(event, **content):
    print(json.dumps({"event": event, **content}), flush=True)
spec = json.loads(sys.stdin.readline())
(name,) = spec["folders"]
seconds = {"base": 0.01, "head": 0.02, "control": 0.01}[name]
say("kernels")
for one in spec["cases"]:
    say("start", case=one["kernel"])
    say("ready", of_call=(seconds, 1, seconds))
    for line in sys.stdin:
        if json.loads(line)["do"] == "next":
            break
        if (one["kernel"], name) == ("dying", "head"):
            os.abort()
        say("slice", seconds=seconds, cpu_seconds=seconds)
    say("done", case=one["kernel"])
"""


def in_this_process(
    monkeypatch: pytest.MonkeyPatch, measure: Any, spec: Spec, *asked: dict[str, str]
) -> None:
    """Do in this process what a measuring process does."""
    lines = [SPEC.dump_json(spec).decode(), *map(json.dumps, asked)]
    monkeypatch.setattr("sys.stdin", StringIO("\n".join(lines) + "\n"))
    with forgetting_versions():
        worker.work(measure)


def program(folder: Path, text: str) -> str:
    """Write a program in the place of an interpreter, and return its path."""
    folder.mkdir(exist_ok=True)
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_versions_of_two_interpreters_take_turns_and_a_crash_costs_the_case_it_is_at(
    tmp_path: Path,
) -> None:
    """By processes that serve made-up times: the head takes twice as long, and dies at a case."""
    (tmp_path / "serve.py").write_text(SERVES)
    python = program(tmp_path, f"exec {sys.executable} -IS {tmp_path / 'serve.py'}")
    cases = [KernelCase(kernel, CASE) for kernel in ("einsum", "dying", "mine")]
    spec = Spec({name: "" for name in (BASE, HEAD, CONTROL)}, cases, control=cases[0].name)
    found = measure_block(spec, {BASE: python, HEAD: python})
    assert list(found) == [one.name for one in cases]
    first, dying, last = found.values()
    assert first.pop("first_call_s") == {BASE: 0.01, HEAD: 0.02, CONTROL: 0.01}
    slower = {"log_ratio": math.log(2), "head_s": 0.02, "base_s": 0.01}
    assert first == pytest.approx(slower | {"control": 0.0})
    assert "aborted" in dying["crashed"]
    assert last["log_ratio"] == pytest.approx(math.log(2))  # in processes after those that ended


def test_a_process_that_serves_times_its_call_when_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = Spec({"test": str(copy_package(tmp_path))}, [KernelCase("matmul", CASE)])
    in_this_process(monkeypatch, worker.serve, spec, {"do": "slice"}, {"do": "next"})
    _, start, ready, timed, done = map(json.loads, capsys.readouterr().out.splitlines())
    assert [one["event"] for one in (start, timed, done)] == ["start", "slice", "done"]
    assert min(ready["of_call"]) > 0
    assert timed["seconds"] > 0


@pytest.mark.slow
def test_two_environments_take_turns(tmp_path: Path) -> None:
    """One interpreter is two environments of the same version; a crash costs the case it is at."""
    folders = {}
    for name, text in ((BASE, MINE), (HEAD, WORSE), (CONTROL, MINE)):
        folders[name] = str(copy_package(tmp_path / name))
        (tmp_path / name / KERNEL_FILE_DIR).mkdir()
        (tmp_path / name / KERNEL_FILE_DIR / "mine.py").write_text(text)
    cases = [KernelCase(kernel, CASE) for kernel in ("einsum", "dying", "mine")]
    spec = Spec(folders, cases, seed=3, control=cases[0].name)
    found = measure_block(spec, dict.fromkeys((BASE, HEAD), sys.executable))
    assert list(found) == [one.name for one in cases]
    assert math.isfinite(found[cases[2].name]["log_ratio"])  # in processes after those that ended
    for value in ("log_ratio", "control"):
        assert abs(found[cases[0].name][value]) < math.log(3)
    assert found[cases[0].name]["base_s"] > 0
    assert min(found[cases[0].name]["first_call_s"][name] for name in (BASE, HEAD)) > 0
    assert "aborted" in found[cases[1].name]["crashed"]


def test_a_version_of_another_make_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_package(tmp_path)
    registry = folder / "mlr" / "registry.py"
    text = registry.read_text()
    spec = Spec({"test": str(folder)}, [KernelCase("matmul", CASE)])
    for old, new, part in (
        ("def bind(", "def tie(", "AttributeError: 'Kernel' object has no attribute 'bind'"),
        ("def bind(", "def (", "SyntaxError"),
    ):
        registry.write_text(text.replace(old, new))
        in_this_process(monkeypatch, worker.verify, spec)
        event = json.loads(capsys.readouterr().out)
        assert event["event"] == "refused"
        assert event["reason"].startswith("the test version cannot be used: ")
        assert part in event["reason"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo no torch >&2; exit 1", r"python failed: its process ended \(exit status 1\): no"),
        ("echo 3", "must print nothing, .* got '3': print to sys.stderr"),
        ("""echo '{"event": "refused", "reason": "it cannot be used"}'""", "it cannot be used"),
    ],
)
def test_an_interpreter_that_does_no_work_is_one_clear_line(
    text: str, said: str, tmp_path: Path
) -> None:
    spec = Spec({}, [])
    with pytest.raises(UserError, match=said) as error:
        run_block(spec, "mlr", python=program(tmp_path, text))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="a program that can be run; /no/such/python"):
        run_block(spec, "mlr", python="/no/such/python")


@pytest.mark.parametrize(("threads", "expected"), [(None, "3"), (2, "2")])
def test_a_process_has_the_threads_that_are_asked_for(
    threads: int | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("PJRT_NPROC", "5")
    told = '{"event": "kernels", "omp": "$OMP_NUM_THREADS", "jax": "$PJRT_NPROC"}'
    tells = program(tmp_path, f"read a; cat <<END\n{told}\nEND")
    with started(Spec({}, [], threads=threads), "mlr", python=tells) as own:
        assert own.kernels == {"event": "kernels", "omp": expected, "jax": expected}


def test_a_process_of_one_version_builds_extensions_of_torch_in_its_folder(tmp_path: Path) -> None:
    """Which others would wait for, and then take for theirs: torch knows them by name alone."""
    told = '{"event": "kernels", "there": "$TORCH_EXTENSIONS_DIR"}'
    tells = program(tmp_path, f"read a; cat <<END\n{told}\nEND")
    for name in (BASE, HEAD):
        spec = Spec({name: str(tmp_path / name)}, [], packages=["theirs"], alone=True)
        with started(spec, "mlr", python=tells) as own:
            there = own.kernels["there"]
        assert Path(str(there)).is_relative_to(tmp_path / name)


def test_a_process_that_ends_early_is_no_answer(tmp_path: Path) -> None:
    """Whether it was at a case or between two."""
    start = '{"event": "start", "case": "a"}'
    kernels = '{"event": "kernels"}'
    ends = program(tmp_path / "one", f"read a; echo '{kernels}'; echo '{start}'; kill -9 $$")
    with started(Spec({}, []), "mlr", python=ends) as at_a_case:
        with pytest.raises(CrashError, match="killed"):
            at_a_case.get_ready()
        with pytest.raises(CrashError, match="killed"):
            at_a_case.time_batch()
        assert at_a_case.case == "a"
    ends = program(tmp_path / "two", f"read a; echo '{kernels}'")
    with (
        started(Spec({}, []), "mlr", python=ends) as between_two,
        pytest.raises(CrashError, match="it ended early"),
    ):
        between_two.get_ready()


@pytest.mark.parametrize("is_lost", [False, True])
def test_an_error_that_loses_the_device_ends_its_process_and_so_spoils_no_other_case(
    is_lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        oracle = mlr

        def unsupported(self, case: Case) -> None: ...

        def bind(self, problem: object) -> None:
            raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(Device, "release_memory", lambda device: not is_lost)
    one = KernelCase("failing", CASE)
    if is_lost:
        with pytest.raises(SystemExit, match="RuntimeError: an illegal memory"):
            worker.verify(one, {BASE: Failing()}, Spec({}, [one]))
    else:
        found = worker.verify(one, {BASE: Failing()}, Spec({}, [one]))
        assert found["failure"].startswith("crashed: RuntimeError: an illegal memory")
