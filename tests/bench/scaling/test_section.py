"""Scaling runs: what is refused, the link that is found again, what is predicted and shown."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from reports import blank_figures
from run_builder import FEW_KERNELS, build_run, save
from scaling_runs import KNOWN, SIZES, TIMES, all_reduces, failed, result, run_of, stored

from bench.common.errors import UserError
from bench.report.build import write_report
from bench.scaling.metrics import (
    SHORTEST_S,
    LinkModel,
    fit_link,
    scaling_table,
    times_by_round,
)
from bench.scaling.records import ScalingResult, ScalingRun
from bench.scaling.section import COLUMNS, scaling_figure, scaling_section, subject


def section(run: ScalingRun) -> str:
    """The report's part on a run, each paragraph on one line, as a reader sees it."""
    return re.sub(r"(?<=[\w,;:])\n(?=\w)", " ", scaling_section(run, "figures/scaling.png"))


def cells(run: ScalingRun) -> dict[str, list[str]]:
    table = scaling_table(run)
    return {column.heading: column.write(table) for column in COLUMNS}


def drawn(run: ScalingRun) -> Figure:
    figure = scaling_figure(run)
    assert figure is not None
    return figure


def fitted(**changed: Any) -> LinkModel:
    link = fit_link(run_of(**changed))
    assert link is not None
    return link


def test_samples_become_a_value_each_round() -> None:
    """Two ranks, one round: a step lasts as on its slowest rank, and its compute call by call."""
    first = [("k", 0, "step", [4.0]), ("k", 0, "ddp", [6.0]), ("k", 0, "ddp", [8.0]),
             ("k", 0, "step", [6.0]), ("k", 0, "compute", [1.0, 5.0]),
             ("k", 0, "whole", [6.0, 6.0]), ("k", 0, "single", [9.0]),
             ("ddp", 0, "step", [3.0]), ("ddp", 0, "single", [2.0])]  # fmt: skip
    second = [("k", 0, "step", [2.0]), ("k", 0, "ddp", [10.0]), ("k", 0, "ddp", [10.0]),
              ("k", 0, "step", [2.0]), ("k", 0, "compute", [3.0, 2.0]),
              ("k", 0, "whole", [5.0, 5.0]), ("ddp", 0, "step", [7.0])]  # fmt: skip
    found = times_by_round([first, second])
    assert found["k"] == {
        "step_s": [5.0], "single_process_s": [9.0], "compute_s": [[3.0, 2.5]],
        "compute_max_s": [4.0],  # the mean of 3, by rank 1, and 5, by rank 0
        "allreduce_s": [2.0], "ddp_log_ratios": [pytest.approx(math.log(10 / 5))],
    }  # fmt: skip
    assert found["ddp"] == {name: [] for name in TIMES} | {
        "step_s": [7.0], "single_process_s": [2.0]
    }  # fmt: skip
    shorter = [("k", 3, "compute", [2.0]), ("k", 3, "whole", [1.0])]
    assert times_by_round([shorter])["k"]["allreduce_s"] == [SHORTEST_S]
    assert times_by_round([[], []]) == {}


def test_a_known_link_is_found_again() -> None:
    assert fitted() == pytest.approx(KNOWN, rel=1e-6)
    assert fitted(all_reduces=all_reduces(noise=0.1)) == pytest.approx(KNOWN, rel=0.1)
    slow = LinkModel(1.7e-4, 0.0)  # however the sums are rounded
    assert fitted(all_reduces=all_reduces(slow)) == pytest.approx(slow, rel=1e-6, abs=1e-15)
    for few in ([], all_reduces()[:1]):
        assert fit_link(run_of(all_reduces=few)) is None
        assert "Too few all-reduces" in section(run_of(all_reduces=few))
    assert KNOWN.all_reduce_s(1, 10**9) == 0
    assert KNOWN.all_reduce_s(2, 0) == 2 * KNOWN.latency_s


def test_efficiency_and_speedup_are_to_a_single_process() -> None:
    times = {"step_s": [2.0, 2.0, 4.0], "single_process_s": [4.0, 6.0, 8.0]}
    measured: dict[str, Any] = {"results": [result("matmul", **times)], "all_reduces": []}
    strong, weak = run_of(**measured), run_of(**measured, mode="weak")
    assert scaling_table(strong)["efficiency"].to_list() == [2 / 4]
    assert scaling_table(weak)["efficiency"].to_list() == [2]
    table = cells(strong)
    assert table["speedup vs. single process (q1–q3)"] == ["2.00× (2.00–2.50)"]
    assert (table["efficiency"], table["predicted efficiency"]) == (["50.0 %"], ["–"])
    assert "speedup vs. single process (q1–q3)" in section(strong)
    assert "speedup vs. single process (q1–q3)" not in section(weak)


def test_the_efficiency_is_predicted_from_the_compute_and_the_link() -> None:
    table = scaling_table(run_of()).set_index("kernel")
    ours = table.loc[["matmul", "one_pass"]]  # their compute divides without loss
    assert (ours["predicted"] / ours["efficiency"]).to_list() == pytest.approx([1] * 4, abs=1e-6)
    one = ScalingResult.model_validate(result("matmul"))
    late = result("matmul", step_s=[10 * step for step in one.step_s])
    said = section(run_of(results=[late]))
    assert "Over 1 step of our own kernels the prediction is off by 900 % in the median" in said
    alone, sent = np.median(one.single_process_s), KNOWN.all_reduce_s(4, one.message_bytes)
    weak = scaling_table(run_of(mode="weak", results=[result("matmul")]))["predicted"]
    assert weak.to_list() == [pytest.approx(alone / (alone + sent))]


def test_the_speedup_to_ddp_has_an_interval_over_launches() -> None:
    """Not over rounds: those of a launch lie together, and that of a launch is their median."""
    logs = [0.1, 0.2, 0.3, 0.3, 0.4, 0.9, 0.5, 0.6, 0.7]
    launches = [
        run_of(results=[result("matmul", ddp_log_ratios=logs[3 * n :][:3]), result("ddp")])
        for n in range(3)
    ]
    run = ScalingRun.joined(launches)
    found = scaling_table(run).set_index("kernel")[["ddp", "ddp_low", "ddp_high"]]
    half = 4.302653 * 0.2 / math.sqrt(3) * math.sqrt(math.pi / 3)  # Student's, two degrees
    ends = np.exp([0.4, 0.4 - half, 0.4 + half])
    assert found.loc["matmul"].to_list() == pytest.approx(ends, rel=1e-5)
    assert found.loc["ddp"].isna().all()
    assert "95 % interval over 3 launches of the job." in section(run).replace("\n", " ")
    assert "3 rounds in each of 3 launches" in section(run)


def test_of_one_launch_there_are_quartiles_and_no_interval() -> None:
    run = run_of(results=[result("matmul", ddp_log_ratios=[0.2, 0.4, 0.6])])
    assert cells(run)["speedup vs. DDP"] == ["1.49× (1.35–1.65)"]  # e^0.4, from e^0.3 to e^0.5
    said = section(run).replace("\n", " ")
    assert "launched once: in brackets are the quartiles over its rounds" in said
    assert "95 %" not in said
    assert "geometric mean" not in said


def test_launches_are_joined_round_by_round_and_a_failure_of_one_is_told() -> None:
    second = [result("matmul", step_s=[7.0, 8.0, 9.0]), failed("one_pass")]
    first = [result("matmul"), result("one_pass")]
    runs = [run_of(results=results) for results in (first, second)]
    whole = ScalingRun.joined(runs)
    assert whole.launches == 2
    ours, other = whole.results
    assert ours.step_s == [*first[0]["step_s"], 7.0, 8.0, 9.0]
    assert len(ours.compute_s) == len(ours.ddp_log_ratios) == 6
    assert (other.status, other.step_s) == ("wrong", [])
    assert [len(point.seconds) for point in whole.all_reduces] == [10] * len(SIZES)
    assert ScalingRun.model_validate(whole.model_dump(by_alias=True)) == whole
    assert ScalingRun.joined(runs[:1]) == runs[0]


def test_the_newest_of_each_machine_mode_world_and_threads_is_read(tmp_path: Path) -> None:
    two = {"world": 2, "ranks": stored()["ranks"][:2], "results": []}
    newer = {"datetime": "2026-11-25T00:00:00+00:00", "all_reduces": []}
    threads = {"settings": {"threads": 2}}
    others = ({}, newer, {"mode": "weak"}, {"machine": "a"}, two, threads)
    for number, changed in enumerate(others):
        run_of(**changed).store(tmp_path / str(number), "strong")
    found = ScalingRun.latest(tmp_path)
    assert [one.name for one in found] == ["a-strong-4", "here-strong-2", "here-strong-4",
                                           "here-strong-4-2threads", "here-weak-4"]  # fmt: skip
    assert [len(one.all_reduces) for one in found] == [9, 9, 0, 9, 9]
    assert found[4] == run_of(mode="weak")
    assert ScalingRun.latest(tmp_path / "none") == []


REFUSED: dict[str, dict[str, Any]] = {
    "newer": {"schema": 3},
    "nan": {"results": [result("matmul", single_process_s=[math.nan] * 3)]},
    "infinite": {"results": [result("matmul", ddp_log_ratios=[math.inf] * 3)]},
    "negative": {"results": [result("matmul", step_s=[-1.0] * 3)]},
    "machine": {"machine": "../../up"},
    "mode": {"mode": "other"},
    "unequal": {"results": [result("matmul", single_process_s=[1.0] * 4)]},
    "half split": {"results": [result("matmul", allreduce_s=[])]},
    "unequal ratios": {"results": [result("matmul", ddp_log_ratios=[0.0])]},
    "times of a wrong one": {"results": [result("matmul", status="wrong")]},
    "no times": {"results": [failed("matmul", status="ok")]},
    "ranks of a round": {"results": [result("matmul", compute_s=[[1.0] * 3] * 3)]},
    "ranks": {"ranks": []},
    "launches": {"launches": 2},
    "empty sum": {"all_reduces": [{"bytes": 64, "seconds": []}]},
    "long reason": {"results": [failed("matmul", reason="x" * 1001)]},
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_a_file_that_holds_none_is_one_line(content: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(stored(**content)))
    with pytest.raises(UserError, match="a scaling run") as error:
        ScalingRun.latest(tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 800


def test_the_section_says_what_was_found() -> None:
    text = section(run_of())
    for expected in (
        "### Strong scaling over 4 processes",
        "| 100,000 × 64 → 16 ",
        "| wrong: it is off ",
        "| ok ",
        "| baseline ",
        "α = 11.0 µs a message, 1/β is 2.50 GB/s",
        "Over 4 steps of our own kernels the prediction is off by",
        "commit 0123456789, 3 rounds; 4 processes on 1 host: here with 4 cores, 1 thread each.",
    ):
        assert expected in text
    assert "stopped before its end" not in text
    assert "stopped before its end" in section(run_of(settings={"rounds": 3, "complete": False}))
    free = section(run_of(all_reduces=all_reduces(LinkModel(1e-6, 0.0))))
    assert "1/β is not measurable" in free


def test_what_is_shown_is_escaped_and_drawn(tmp_path: Path) -> None:
    hostile = "a|b<script>$x$\n# _y_"
    ranks = [one | {"host": hostile} for one in stored()["ranks"]]
    cases = [result(hostile), failed(hostile, reason=hostile), result("ddp")]
    run = run_of(results=cases, ranks=ranks, commit_info={"id": "`|<b>", "dirty": True})
    text = section(run)
    assert not {"<", "`"} & set(text)
    assert "a&#124;b&lt;script&gt;" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows[:5]}) == 1
    drawn(run).savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_the_figure_draws_what_there_is() -> None:
    left, right = drawn(run_of()).axes
    assert left.get_title() == "a step at 100,000 × 64 → 16, float64"
    kernels = [label.get_text() for label in left.get_yticklabels()]
    assert kernels == ["statistics", "one_pass", "matmul", "ddp"]
    assert len(left.patches) == 4 * 4
    (dots,) = (line for line in right.lines if line.get_marker() == "o")
    (model,) = (line for line in right.lines if line.get_marker() != "o")
    assert list(dots.get_xdata()) == list(SIZES)
    ends = [model.get_ydata()[0], model.get_ydata()[-1]]  # from the first dot to the last
    assert ends == pytest.approx([dots.get_ydata()[0], dots.get_ydata()[-1]], rel=0.01)
    both = [result("matmul", dtype=dtype) for dtype in ("float64", "float32")]
    for results, dtype in ((both, "float64"), (both[1:], "float32")):
        assert drawn(run_of(results=results)).axes[0].get_title().endswith(dtype)
    for empty in ({"results": [], "all_reduces": []}, {"results": [failed("matmul")]}):
        assert scaling_figure(run_of(**empty)) is None
        assert "Strong scaling" in section(run_of(**empty))


def test_it_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blank_figures(monkeypatch)  # but those of scaling
    run = save(build_run(["step"], ((33, 6, 3),), kernels=FEW_KERNELS), tmp_path / "a.json")
    runs = [run_of(), run_of(mode="weak"), run_of(machine="there")]
    written, _ = write_report([run], tmp_path / "out", [subject(runs)], page=True)
    text = (tmp_path / "out" / "REPORT.md").read_text(encoding="utf-8")
    # Of those with the most cases the first strong one is published.
    for name in ("scaling.png", "here-weak-4-scaling.png", "there-strong-4-scaling.png"):
        assert tmp_path / "out" / "figures" / name in written
        assert (f"](figures/{name})" in text) is (name == "scaling.png")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    here, there = (page.split(f"Scaling on {name}</summary>")[1] for name in ("here", "there"))
    here = here.split("</details>")[0]
    assert "Strong scaling over 4" in here
    assert "Weak scaling over 4" in here
    assert "Weak" not in there.split("</details>")[0]
    assert page.count("and the all-reduce against its bytes") == 3
