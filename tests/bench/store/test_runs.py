"""Run files: what is read comes back whole, what is wrong is refused in one line."""

import copy
import errno
import json
import os
import sys
from math import nan
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from run_builder import add_case, build_run, rename, save

from bench.common.errors import UserError
from bench.store.columns import FRAME, LETTERS
from bench.store.runs import (
    find_runs,
    latest_runs,
    load_frame,
    load_heads,
    load_run,
    write_run,
)

SMALL = ((33, 6, 3), (10_000, 256, 64))


@pytest.fixture
def run() -> dict[str, Any]:
    return build_run(["gradient"], SMALL)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_run(path)
    message = str(caught.value)
    assert message.isprintable(), message
    assert len(message) < 1200
    assert path.name in message
    return message


def test_frame_has_a_row_per_planned_case(run: dict[str, Any], tmp_path: Path) -> None:
    frame = load_frame([save(run, tmp_path / "a.json")])
    named = [axis for name in FRAME for axis in (LETTERS if name == "sizes" else [name])]
    assert list(frame.columns) == named
    assert len(frame) == len(run["outcomes"])
    assert set(frame["case"]) == {"33x6x3", "10000x256x64"}
    ok = frame["status"] == "ok"
    assert not ok.all()
    for name in ("median_s", "q1_s", "rounds", "speedup", "peak_bytes", "efficiency"):
        assert frame.loc[ok, name].notna().all()
        assert frame.loc[~ok, name].isna().all()
    assert frame["predicted_peak_bytes"].notna().all()
    assert frame["reason"].notna().equals(~ok)


def test_frame_holds_the_numbers_of_the_file(run: dict[str, Any], tmp_path: Path) -> None:
    row = load_frame([save(run, tmp_path / "a.json")]).iloc[1]
    entry = run["benchmarks"][1]
    assert row["fullname"] == entry["fullname"]
    assert row["median_s"] == entry["stats"]["median"]
    assert row["q3_s"] == entry["stats"]["q3"]
    assert row["speedup"] == entry["extra_info"]["speedup"]
    assert (row["run"], row["machine"], row["dirty"]) == ("a", "amd-epyc-2-core", False)


def test_samples_are_read_as_columns_and_as_records(tmp_path: Path) -> None:
    """Older runs have a record a process, newer ones a column each."""
    run = build_run(["gradient"], SMALL, processes=3)
    records = load_run(save(run, tmp_path / "a.json"))
    for entry in run["benchmarks"]:
        rows = entry["samples"]
        entry["samples"] = {name: [row[name] for row in rows] for name in rows[0]}
        entry["samples"]["log_speedup"] = [None, 0.5, None]
    columns = load_run(save(run, tmp_path / "b.json"))
    for ours, theirs in zip(columns.benchmarks, records.benchmarks, strict=True):
        assert [one.log_speedup for one in ours.samples] == [None, 0.5, None]
        assert [one.median_s for one in ours.samples] == [one.median_s for one in theirs.samples]
        assert [one.number for one in ours.samples] == [one.number for one in theirs.samples]
    run["benchmarks"][0]["samples"] = {}
    assert load_run(save(run, tmp_path / "c.json")).benchmarks[0].samples == []


def test_frame_without_rows_keeps_its_columns(run: dict[str, Any], tmp_path: Path) -> None:
    run |= {"outcomes": [], "benchmarks": []}
    frame = load_frame([save(run, tmp_path / "a.json")])
    assert frame.empty
    assert frame["median_s"].dtype == np.float64
    assert load_frame([]).empty


def test_runs_that_nothing_tells_apart_are_refused(run: dict[str, Any], tmp_path: Path) -> None:
    paths = [save(run, tmp_path / folder / "a.json") for folder in ("x", "y")]
    with pytest.raises(UserError, match="share one"):
        load_frame(paths)
    assert len(load_frame([paths[0]] * 2)) == len(run["outcomes"])


def test_write_and_load_round_trip(run: dict[str, Any], tmp_path: Path) -> None:
    path = write_run(tmp_path / "new" / "a.json", run)
    assert json.loads(path.read_text()) == run
    again = write_run(tmp_path / "new" / "b.json", load_run(path).model_dump(by_alias=True))
    assert load_run(again) == load_run(path)
    assert json.loads(again.read_text())["machine_info"] == run["machine_info"]
    assert sorted(os.listdir(path.parent)) == ["a.json", "b.json"]


def test_pytest_benchmark_reads_a_stored_run(
    run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_benchmark.cli import main

    path = write_run(tmp_path / "a.json", run)
    command = ["compare", str(path), "--columns=median", f"--csv={tmp_path / 'out'}"]
    monkeypatch.setattr(sys, "argv", ["pytest-benchmark", *command])
    main()
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 1 + len(run["benchmarks"])


def test_a_stored_run_is_never_replaced(run: dict[str, Any], tmp_path: Path) -> None:
    path = write_run(tmp_path / "a.json", run)
    before = path.read_bytes()
    with pytest.raises(UserError, match="never edited"):
        write_run(path, run)
    assert path.read_bytes() == before


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("call", "failure", "said"),
    [
        ("fsync", FULL, "No space left"),
        ("link", FULL, "No space left"),
        ("fsync", KeyboardInterrupt(), ""),
    ],
)
def test_what_cannot_be_written_whole_leaves_nothing(
    call: str, failure: BaseException, said: str, run: dict[str, Any], tmp_path: Path
) -> None:
    with (
        mock.patch.object(os, call, side_effect=failure),
        pytest.raises((UserError, KeyboardInterrupt)) as caught,
    ):
        write_run(tmp_path / "a.json", run)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder(run: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="must be writable"):
        write_run(tmp_path / "file" / "a.json", run)


def test_invalid_run_is_not_written(run: dict[str, Any], tmp_path: Path) -> None:
    for broken in ({"datetime": "yesterday"}, {"settings": {"x": nan}}):
        with pytest.raises(UserError):
            write_run(tmp_path / "a.json", run | broken)
    assert list(tmp_path.iterdir()) == []


def test_truncated_at_every_tenth_byte(tmp_path: Path) -> None:
    whole = json.dumps(build_run(["step"], [(33, 6, 3)], kernels={"step": {"a": (1, 1, "m")}}))
    path = tmp_path / "a.json"
    for length in range(0, len(whole), 10):
        path.write_text(whole[:length])
        assert "truncated or damaged" in refusal(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        *((text, "truncated or damaged") for text in (b"", b"\xff\xfe\x00", b"[" * 200_000)),
        *((text, 'must have "schema": 2') for text in (b"[1, 2]", b'{"benchmarks": []}')),
        *((b'{"schema": %s}' % one, "code that wrote it") for one in (b"3", b"true", b'"1"')),
        *((b'{"schema": 2, "x": %s}' % x, "damaged") for x in (b"NaN", b"-Infinity", b"1" * 5000)),
        (b'{"schema": 2}', "datetime: Field required"),
    ],
)
def test_other_files_are_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert said in refusal(path)
    with pytest.raises(UserError, match=r"a\.json"):
        load_heads([path])


def test_missing_file_folder_and_odd_name(tmp_path: Path) -> None:
    assert "must exist" in refusal(tmp_path / "none.json")
    assert "readable" in refusal(tmp_path)
    with pytest.raises(UserError) as caught:
        load_run(tmp_path / "a\n\x1b[31m.json")
    assert str(caught.value).isprintable()


def test_unreadable_file(tmp_path: Path) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied")
    with mock.patch.object(Path, "read_bytes", side_effect=denied):
        assert "Permission denied" in refusal(tmp_path / "a.json")


SAMPLES = ("benchmarks", 0, "samples")
STATS = ("benchmarks", 0, "stats")
EXTRA = ("benchmarks", 0, "extra_info")


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ((*STATS, "median"), -1e-6, "benchmarks.0.stats.median"),
        ((*STATS, "min"), 0, "benchmarks.0.stats.min"),
        ((*STATS, "mean"), "1e-6", "benchmarks.0.stats.mean"),
        ((*STATS, "q1"), True, "benchmarks.0.stats.q1"),
        ((*STATS, "q1"), 10**400, "benchmarks.0.stats.q1"),
        ((*STATS, "q1"), float("inf"), "truncated or damaged"),
        ((*STATS, "q1"), 1e9, "must be in this order"),
        ((*STATS, "rounds"), 0, "benchmarks.0.stats.rounds"),
        ((*STATS, "stddev"), -1, "benchmarks.0.stats.stddev"),
        ((*STATS, "data"), [1e-6, -1e-6], "benchmarks.0.stats.data.1"),
        (SAMPLES, {"process": [1, 2], "median_s": [1e-6]}, "must be lists of one length"),
        (SAMPLES, {"process": 1, "median_s": 1e-6}, "must be lists of one length"),
        (SAMPLES, {"process": [1], "median_s": [None]}, "benchmarks.0.samples.0.median_s"),
        (SAMPLES, {"process": [1], "median_s": [-1e-6]}, "benchmarks.0.samples.0.median_s"),
        ((*EXTRA, "peak_bytes"), -8, "benchmarks.0.extra_info.peak_bytes"),
        ((*EXTRA, "speedup_low"), 1e9, "must be in this order"),
        ((*EXTRA, "status"), "wrong", "benchmarks.0.extra_info.status"),
        ((*EXTRA, "kernel"), "other", "differ in the case"),
        (("outcomes", 0, "status"), "fine\n\x1b[31m", "outcomes.0.status"),
        (("outcomes", 0, "status"), "timeout", "only an ok outcome has a benchmark"),
        (("outcomes", 0, "batch"), 0, "outcomes.0.sizes.batch"),
        (("outcomes", 0, "batch"), 2**70, "outcomes.0.sizes.batch"),
        (("outcomes", 0, "batch"), 33.5, "outcomes.0.sizes.batch"),
        (("outcomes", 0, "device"), "../../etc", "outcomes.0.device"),
        (("outcomes", 0, "fullname"), "unknown", "only an ok outcome has a benchmark"),
        (("machine", "slug"), "../elsewhere", "machine.slug"),
        (("machine", "ceilings"), {"cpu": {"dispatch_s": -1}}, "machine.ceilings.cpu.dispatch_s"),
        (("commit_info", "dirty"), "no", "commit_info.dirty"),
        (("datetime",), "yesterday", "datetime"),
        (("packages", "torch"), 2, "packages.torch"),
        (("benchmarks",), [], "an ok outcome must have a benchmark"),
        (("benchmarks",), {}, "benchmarks"),
    ],
)
def test_invalid_content_is_named(
    where: tuple[str | int, ...], value: object, said: str, run: dict[str, Any], tmp_path: Path
) -> None:
    place: Any = run
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    assert said in refusal(save(run, tmp_path / "a.json"))


def test_two_entries_for_one_case(run: dict[str, Any], tmp_path: Path) -> None:
    twice = copy.deepcopy(run)
    twice["benchmarks"].append(twice["benchmarks"][0])
    assert "has a benchmark, and one" in refusal(save(twice, tmp_path / "a.json"))
    run["outcomes"].append(run["outcomes"][0])
    assert "in outcomes once" in refusal(save(run, tmp_path / "b.json"))


def test_fields_of_others_and_equal_times_are_kept(tmp_path: Path) -> None:
    run = build_run([])
    add_case(run, "gradient", "matmul", (1, 1, 1))
    stats = run["benchmarks"][0]["stats"]
    stats |= dict.fromkeys(("min", "max", "median", "mean", "q3"), 0.3) | {"stddev": 0}
    stats |= {"q1": 0.30000000000000004, "of another tool": [None]}
    loaded = load_run(save(run, tmp_path / "a.json"))
    assert loaded.model_dump()["benchmarks"][0]["stats"]["of another tool"] == [None]


def test_hostile_names_are_data(run: dict[str, Any], tmp_path: Path) -> None:
    name = "a|b`<script>\n\x1b[31m"
    rename(run, "matmul", name)
    frame = load_frame([write_run(tmp_path / "a.json", run)])
    assert name in set(frame["kernel"])


def test_find_and_latest(run: dict[str, Any], tmp_path: Path) -> None:
    other = build_run(["gradient"], SMALL, slug="zen", datetime="2025-01-01T00:00:00")
    old = run | {"datetime": "2026-11-23T05:30:00+02:00"}
    paths = [
        save(old, tmp_path / "amd" / "b.json"),
        save(run, tmp_path / "amd" / "a.json"),
        save(other, tmp_path / "zen" / "c.json"),
    ]
    (tmp_path / "amd" / ".b.json.17.tmp").write_text("half")
    (tmp_path / "amd" / ".hidden.json").write_text("half")
    (tmp_path / "README.md").write_text("about")
    assert find_runs(tmp_path) == sorted(paths)
    # 05:30+02:00 is 03:30 UTC, before 05:00 UTC.
    assert latest_runs(load_heads(find_runs(tmp_path))) == [paths[1], paths[2]]
    tall = tmp_path / "tall.json"
    save(run | {"settings": run["settings"] | {"grid": "tall"}}, tall)
    assert set(latest_runs(load_heads(find_runs(tmp_path)))) == {paths[1], paths[2], tall}
    assert find_runs(tmp_path / "none") == find_runs(tmp_path / "README.md") == []
    save(other | {"machine": {}}, paths[2])
    with pytest.raises(UserError, match=r"c\.json: machine.slug"):
        load_heads(find_runs(tmp_path))


def test_a_run_that_measured_nothing_takes_no_run_s_place(
    run: dict[str, Any], tmp_path: Path
) -> None:
    crashed = [one | {"status": "crashed", "reason": "no driver"} for one in run["outcomes"]]
    later = {"datetime": "2026-11-30T05:00:00+00:00", "outcomes": crashed, "benchmarks": []}
    good, bad = save(run, tmp_path / "a.json"), save(run | later, tmp_path / "b.json")
    assert load_run(bad).benchmarks == []
    assert latest_runs(load_heads([good, bad])) == [good]
    assert latest_runs(load_heads([bad])) == [bad]  # where there is no other it is shown
