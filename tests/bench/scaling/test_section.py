"""Scaling runs: what is refused, the link that is found again, what is predicted and shown."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_builder import FEW_KERNELS, build_run, save

from bench.common.errors import UserError
from bench.report.build import write_report
from bench.scaling.figures import scaling_figures
from bench.scaling.link_model import (
    LINKS,
    MOST_WORKERS,
    Link,
    fit_link,
    held_out,
    predicted_step_s,
    predictions,
    step_errors,
    worth_until,
)
from bench.scaling.records import (
    Exchange,
    Scaling,
    ddp_ratio,
    efficiency,
    largest,
    latest_scalings,
    load_scaling,
    scaling_name,
    straggling,
)
from bench.scaling.section import (
    link_table,
    predictions_table,
    scaling_section,
    scaling_table,
    subject,
)

KNOWN = Link(8e-6, 11e-6, 2.5e9, 5e-5, 2e-3)
SIZES = tuple(64 * 4**power for power in range(9))
WORKS = tuple(1e-4 * 4**power for power in range(5))
CASES = ((10_000, 6, 3), (100_000, 64, 16))


def exchanges(link: Link, worlds: tuple[int, ...] = (2, 3, 4), noise: float = 0.0) -> list[Any]:
    """All-reduces of a link, every second one held out; five rounds, off by up to `noise`."""
    order = random.Random(0)
    kinds = [("bytes", size, 2e-4, place % 2 == 0) for place, size in enumerate(SIZES)]
    kinds += [("work", 1024, work_s, place % 2 == 0) for place, work_s in enumerate(WORKS)]
    return [
        {"world": world, "swept": swept, "bytes": size, "work_s": work_s, "fitted": fitted,
         "seconds": [link.all_reduce_s(world, size, work_s) * math.exp(noise * order.uniform(-1, 1))
                     for _ in range(5)]}
        for world in worlds
        for swept, size, work_s, fitted in kinds
    ]  # fmt: skip


def scaled(kernel: str, case: tuple[int, int, int] = CASES[0], **changed: Any) -> dict[str, Any]:
    """One kernel over four ranks in three rounds, whose link is `KNOWN`; some kernels are faster.

    A process alone takes four times what the slowest of the ranks computes.
    """
    m, n, o = case
    faster = {"one_pass": 0.5, "ddp": 1.6, "statistics": 0.4}.get(kernel, 1.0)
    message = 8 * (n * o + o + 1)
    compute = [1e-9 * faster * m * n * o / 4 * drift for drift in (1.0, 1.1, 0.9)]
    exchange = [KNOWN.all_reduce_s(4, message, one) for one in compute]
    found = {
        "kernel": kernel, "dtype": "float64", "batch": m, "in_features": n, "out_features": o,
        "status": "ok", "reason": None, "max_rel_error": 1e-16, "message_bytes": message,
        "step_s": [one + sent for one, sent in zip(compute, exchange, strict=True)],
        "alone_s": [4 * one for one in compute],
        "compute_s": [[one, one / 1.25, one / 1.1, one / 1.2] for one in compute],
        "slowest_s": compute,
        "exchange_s": exchange,
        "ddp_log_ratios": [math.log(1.6 / faster) + shift for shift in (-0.1, 0.0, 0.1)],
    }  # fmt: skip
    if kernel == "ddp":
        found |= {"compute_s": [], "slowest_s": [], "exchange_s": [], "ddp_log_ratios": []}
    return found | changed


def failed(kernel: str, status: str = "wrong", **changed: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {"status": status, "reason": "it is off", "max_rel_error": None}
    times = ("step_s", "alone_s", "compute_s", "slowest_s", "exchange_s", "ddp_log_ratios")
    return scaled(kernel) | nothing | {name: [] for name in times} | changed


def stored(**changed: Any) -> dict[str, Any]:
    """A run of four processes, as it is stored."""
    ranks = [{"rank": rank, "machine": "here", "host": "h", "cores": 4, "threads": 1}
             for rank in range(4)]  # fmt: skip
    kernels = ("matmul", "one_pass", "ddp", "statistics")
    return {
        "schema": 1, "datetime": "2026-11-24T05:00:00+00:00", "machine": "here",
        "commit_info": {"id": "0123456789abcdef", "dirty": False}, "mode": "strong", "world": 4,
        "settings": {"rounds": 3}, "packages": {}, "ranks": ranks,
        "scaled": [*(scaled(name, case) for case in CASES for name in kernels), failed("mutant")],
        "exchanges": exchanges(KNOWN),
    } | changed  # fmt: skip


def scaling(**changed: Any) -> Scaling:
    return Scaling.model_validate(stored(**changed))


def fitted(worlds: tuple[int, ...] = (2, 3, 4), noise: float = 0.0, link: Link = KNOWN) -> Link:
    found = fit_link(map(Exchange.model_validate, exchanges(link, worlds, noise)))
    assert found is not None
    return found


def test_a_known_link_is_found_again_and_predicts_what_was_held_out() -> None:
    assert fitted() == pytest.approx(KNOWN, rel=0.01)
    table = held_out(scaling(), fitted())
    assert len(table) == 3 * (len(SIZES) // 2 + len(WORKS) // 2)
    assert table["off"].abs().max() < 0.01
    assert table["predicted_s"].to_numpy() == pytest.approx(table["measured_s"], rel=0.01)
    assert held_out(scaling(), fitted(noise=0.1))["off"].abs().max() < 0.15


def test_with_one_size_of_world_the_latency_has_the_call_in_it() -> None:
    found = fitted((2,))
    assert found.call_s == 0
    assert found.latency_s == pytest.approx(KNOWN.call_s / 2 + KNOWN.latency_s, rel=0.01)
    assert found.bytes_per_s == pytest.approx(KNOWN.bytes_per_s, rel=0.01)
    one = scaling(exchanges=exchanges(KNOWN, (2,)))
    assert held_out(one, found)["off"].abs().max() < 0.01
    assert "cannot tell it" in section(one)
    assert link_table(one, found)["γ, the call"].to_list() == [*["0 ns"] * len(LINKS), "in α"]


def test_what_cannot_be_told_of_a_link_is_not_told() -> None:
    for latency in (1e-6, 1.1e-5, 1.7e-4):  # however the sums are rounded
        endless = Link(0.0, latency, math.inf)
        found = fitted(link=endless)
        assert found == pytest.approx(endless, rel=0.01)
        assert found.call_s == 0
    one = scaling(exchanges=exchanges(endless))
    assert link_table(one, found)["B, bandwidth"].to_list()[-1] == "not to be told"
    assert "B is not to be told" in section(one)
    known = [one for one in exchanges(KNOWN) if one["swept"] == "bytes"]  # after one length of work
    found = fit_link(map(Exchange.model_validate, known))
    cold_s = KNOWN.cold_s * (1 - math.exp(-2e-4 / KNOWN.cooling_s))
    expected = (KNOWN.call_s + cold_s, KNOWN.latency_s, KNOWN.bytes_per_s, 0.0, 1.0)
    assert found == pytest.approx(expected, rel=0.01)
    for few in ([], exchanges(KNOWN, (2,))[:1], [e | {"fitted": False} for e in exchanges(KNOWN)]):
        one = scaling(exchanges=few)
        assert fit_link(one.exchanges) is None
        assert "Too few all-reduces" in section(one)
        assert set(predictions(one, None)["link"]) == set(LINKS)


def test_one_worker_exchanges_nothing() -> None:
    assert KNOWN.all_reduce_s(1, 10**9) == 0
    assert KNOWN.all_reduce_s(2, 0) == KNOWN.call_s + 2 * KNOWN.latency_s


def test_efficiency_and_speedup_are_to_one_process() -> None:
    times = {"step_s": [2.0, 2.0, 4.0], "alone_s": [4.0, 6.0, 8.0]}
    strong = scaling(scaled=[scaled("matmul", **times)])
    weak = scaling(scaled=[scaled("matmul", **times)], mode="weak")
    assert efficiency(strong, strong.scaled[0]) == 2 / 4
    assert efficiency(weak, weak.scaled[0]) == 2
    table = scaling_table(strong).iloc[0]
    assert table["speedup to one process (q1–q3)"] == "2.00× (2.00–2.50)"
    assert table["efficiency"] == "50.0 %"
    assert not any("speedup" in name for name in scaling_table(weak))


def test_a_straggler_is_the_slowest_over_the_fastest_rank_of_a_round() -> None:
    rounds = [[1.0, 1.0, 1.0, 3.0], [2.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    one = scaling(scaled=[scaled("matmul", compute_s=rounds)]).scaled[0]
    assert straggling(one) == 2


def test_the_ratio_to_ddp_has_students_interval() -> None:
    logs = [0.2, 0.4, 0.6]
    found = ddp_ratio(scaling(scaled=[scaled("matmul", ddp_log_ratios=logs)]).scaled[0])
    assert found is not None
    half = 4.302653 * 0.2 / math.sqrt(3)  # Student's, two degrees of freedom
    assert found == pytest.approx(np.exp([0.4, 0.4 - half, 0.4 + half]), rel=1e-5)
    single = {
        "step_s": [1.0],
        "alone_s": [1.0],
        "compute_s": [[1.0] * 4],
        "slowest_s": [1.0],
        "exchange_s": [1.0],
    }
    run = scaling(scaled=[scaled("matmul", ddp_log_ratios=[0.4], **single)])
    once = ddp_ratio(run.scaled[0])
    assert once is not None
    assert once.ratio == pytest.approx(math.exp(0.4))
    assert math.isnan(once.low)
    assert math.isnan(once.high)
    assert scaling_table(run)["times as fast as DDP (95 %)"].to_list() == ["1.49×"]
    assert ddp_ratio(scaling(scaled=[scaled("ddp")]).scaled[0]) is None


def test_a_step_is_predicted_from_its_compute_and_the_link() -> None:
    run = scaling()
    table = step_errors(run, KNOWN)
    assert sorted(set(table["kernel"])) == ["matmul", "one_pass"]  # DDP's compute is not known
    assert table["off"].abs().max() < 1e-9
    late = [scaled("matmul", step_s=[10 * step for step in scaled("matmul")["step_s"]])]
    assert step_errors(scaling(scaled=late), KNOWN)["off"].to_list() == pytest.approx([-0.9])


@pytest.mark.parametrize(
    "link", [*LINKS.values(), KNOWN, Link(1.0, 0.0, 1e9), Link(0.0, 0.0, math.inf)]
)
@pytest.mark.parametrize("case", CASES)
def test_where_another_worker_no_longer_pays(link: Link, case: tuple[int, int, int]) -> None:
    (one,) = scaling(scaled=[scaled("matmul", case)]).scaled
    alone, size = np.median(one.alone_s), one.message_bytes
    assert predicted_step_s(one, link, 1) == alone

    def step(workers: int) -> float:
        hops = 2 * (workers - 1)
        over = link.call_s + hops * link.latency_s + hops / workers * size / link.bytes_per_s
        over += link.cold_s * (1 - math.exp(-alone / workers / link.cooling_s))
        return alone / workers + (over if workers > 1 else 0)

    until = worth_until(one, link) or MOST_WORKERS
    for other in (1, 2, 3, until - 1, until + 1, 2 * until, MOST_WORKERS):
        if 1 <= other <= MOST_WORKERS:
            assert step(until) <= step(other) * (1 + 1e-12)


def test_predictions_are_of_our_own_fastest_at_the_largest_case() -> None:
    run = scaling()
    assert [one.kernel for one in largest(run)] == ["statistics", "one_pass", "matmul", "ddp"]
    (first, *_) = largest(run, own=True)
    assert (first.kernel, first.case) == ("one_pass", CASES[1])
    table = predictions(run, KNOWN)
    assert table["workers"].drop_duplicates().to_list() == [2**power for power in range(13)]
    (at_four,) = table[(table["link"] == "this machine's loopback") & (table["workers"] == 4)][
        "step_s"
    ]
    assert at_four == pytest.approx(np.median(first.step_s))
    free = predictions_table(run, Link(0.0, 0.0, math.inf))
    assert free["no longer pays from"].to_list()[-1] == "beyond 4,096"
    assert len(free) == len(LINKS) + 1


def test_float64_is_shown_before_float32() -> None:
    small = scaled("matmul", CASES[0])
    run = scaling(scaled=[scaled("matmul", CASES[1], dtype="float32"), small])
    assert [one.dtype for one in largest(run)] == ["float64"]
    assert [one.dtype for one in largest(scaling(scaled=[small | {"dtype": "float32"}]))] == [
        "float32"
    ]


def test_a_weak_run_has_no_prediction() -> None:
    run = scaling(mode="weak")
    assert predictions(run, KNOWN).empty
    assert predictions_table(run, KNOWN).empty
    assert list(scaling_figures(run)) == ["scaling"]
    assert "rediction" not in section(run)


def test_the_newest_of_each_machine_mode_and_world_is_shown(tmp_path: Path) -> None:
    two = {"world": 2, "ranks": stored()["ranks"][:2], "scaled": []}
    for number, changed in enumerate(
        ({}, {"datetime": "2026-11-25T00:00:00+00:00", "exchanges": []}, {"mode": "weak"},
         {"machine": "a"}, two)
    ):  # fmt: skip
        (tmp_path / f"{number}.json").write_text(json.dumps(stored(**changed)))
    found = latest_scalings(tmp_path)
    names = ["a-strong-4", "here-strong-2", "here-strong-4", "here-weak-4"]
    assert [scaling_name(one) for one in found] == names
    assert [len(one.exchanges) for one in found] == [42, 42, 0, 42]
    assert latest_scalings(tmp_path / "none") == []


LONGER = scaled("matmul", alone_s=[1.0] * 4)
FEW_RANKS = scaled("matmul", compute_s=[[1.0] * 3] * 3)
REFUSED = {
    "empty": "",
    "truncated": json.dumps(stored())[:1000],
    "list": "[]",
    "other": '{"schema": 1}',
    "newer": json.dumps(stored(schema=2)),
    "further key": json.dumps(stored(more=1)),
    "nan": json.dumps(stored(scaled=[scaled("matmul", alone_s=[math.nan] * 3)])),
    "infinite": json.dumps(stored(scaled=[scaled("matmul", ddp_log_ratios=[math.inf] * 3)])),
    "negative": json.dumps(stored(scaled=[scaled("matmul", step_s=[-1.0] * 3)])),
    "machine": json.dumps(stored(machine="../../up")),
    "mode": json.dumps(stored(mode="other")),
    "unequal": json.dumps(stored(scaled=[LONGER])),
    "half split": json.dumps(stored(scaled=[scaled("matmul", exchange_s=[])])),
    "unequal ratios": json.dumps(stored(scaled=[scaled("matmul", ddp_log_ratios=[0.0])])),
    "times of a wrong one": json.dumps(stored(scaled=[scaled("matmul", status="wrong")])),
    "no times": json.dumps(stored(scaled=[failed("matmul", status="ok")])),
    "ranks of a round": json.dumps(stored(scaled=[FEW_RANKS])),
    "ranks": json.dumps(stored(ranks=[])),
    "lonely sum": json.dumps(stored(exchanges=[exchanges(KNOWN)[0] | {"world": 1}])),
    "empty sum": json.dumps(stored(exchanges=[exchanges(KNOWN)[0] | {"seconds": []}])),
    "long reason": json.dumps(stored(scaled=[failed("matmul", reason="x" * 1001)])),
    "3 MB": json.dumps(stored(settings={"text": "x" * 3_000_000})),
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_a_file_that_holds_none_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match="a scaling run") as error:
        load_scaling(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 800


def test_what_is_stored_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(stored()))
    assert load_scaling(path) == scaling()


def section(run: Scaling) -> str:
    return scaling_section(run, {what: f"figures/{what}.png" for what in scaling_figures(run)})


def test_the_section_says_what_was_found() -> None:
    text = section(scaling())
    for expected in (
        "### Strong scaling over 4 processes",
        "| 100,000 × 64 → 16 ",
        "| wrong: it is off ",
        "| baseline ",
        "1.25×",
        "γ = 8.00 µs a call, α = 11.0 µs a message, B = 2.50 GB/s, ω = 50.0 µs with τ = 2.00 ms",
        "Of 18 all-reduces held out of the fit it is off by",
        "Of 4 steps, as the slowest rank's compute c + T(P, s, c), it is off by",
        "**Predictions, not measurements:** a step of one_pass at 100,000 × 64 → 16 in float64",
        "The numbers of the links are stated, not measured",
        "| NVLink 4 within a node ",
        "| this machine's loopback ",
        "commit 0123456789, 3 rounds; processes: 4 on here, 4 cores, 1 thread each (1 host)",
    ):
        assert expected in text
    assert "stopped before its end" not in text
    assert "stopped before its end" in section(scaling(settings={"complete": False}))


def test_what_is_shown_is_escaped_and_drawn(tmp_path: Path) -> None:
    hostile = "a|b<script>$x$\n# _y_"
    ranks = [one | {"host": hostile} for one in stored()["ranks"]]
    cases = [scaled(hostile), failed(hostile, reason=hostile), scaled("ddp")]
    run = scaling(scaled=cases, ranks=ranks, commit_info={"id": "`|<b>", "dirty": True},
                  datetime=hostile)  # fmt: skip
    text = section(run)
    assert not {"<", "`"} & set(text)
    assert "a&#124;b&lt;script&gt;" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows[:5]}) == 1
    for what, draw in scaling_figures(run).items():
        draw().savefig(tmp_path / f"{what}.png")
        assert (tmp_path / f"{what}.png").stat().st_size > 10_000


def test_the_figures_draw_what_there_is() -> None:
    figures = {what: draw() for what, draw in scaling_figures(scaling()).items()}
    left, *right = figures["scaling"].axes
    assert len(left.get_yticks()) == 4
    assert len(left.patches) == 4 * 4
    for axes, kinds in zip(right, (SIZES, WORKS), strict=True):
        faces = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"]
        assert len(faces) == 3 * len(kinds)
        assert faces.count("white") == 3 * (len(kinds) // 2)
        dots = [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "o"]
        models = [line.get_ydata() for line in axes.lines if line.get_marker() != "o"]
        assert len(models) == 3
        for place, model in enumerate(models):  # it goes from the first of its dots to the last
            own = dots[place * len(kinds) : (place + 1) * len(kinds)]
            assert [model[0], model[-1]] == pytest.approx([own[0], own[-1]], rel=0.01)
    (axes,) = figures["prediction"].axes
    lines = [line for line in axes.lines if len(np.asarray(line.get_xdata())) > 2]
    assert len(lines) == 1 + len(LINKS) + 1  # compute alone, and each link
    assert all(np.asarray(line.get_xdata())[[0, -1]].tolist() == [1, 4096] for line in lines)
    title = figures["prediction"].get_suptitle()
    assert "Prediction, not measured" in title
    for empty in ({"scaled": [], "exchanges": []}, {"scaled": [failed("matmul")]}):
        assert list(scaling_figures(scaling(**empty))) == ["scaling"]
        assert "Strong scaling" in section(scaling(**empty))


def test_it_is_in_the_report(tmp_path: Path) -> None:
    run = save(build_run(["step"], ((33, 6, 3),), kernels=FEW_KERNELS), tmp_path / "a.json")
    scalings = [scaling(), scaling(mode="weak"), scaling(machine="there")]
    written = write_report([run], tmp_path / "out", [subject(scalings)], page=True)
    text = (tmp_path / "out" / "REPORT.md").read_text(encoding="utf-8")
    here, there = (text.split(f"## Scaling on {name}")[1] for name in ("here", "there"))
    assert "### Strong scaling over 4" in here
    assert "### Weak scaling over 4" in here.split("## Scaling on there")[0]
    assert "### Weak" not in there
    figures = [f"{name}.png" for name in (
        "here-strong-4-scaling", "here-strong-4-prediction", "here-weak-4-scaling",
        "there-strong-4-scaling", "there-strong-4-prediction",
    )]  # fmt: skip
    figures[0] = "scaling.png"  # of those with the most cases the first strong one is published
    for name in figures:
        assert tmp_path / "out" / "figures" / name in written
        assert (f"](figures/{name})" in text) is (name == "scaling.png")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Scaling on here" in page
    assert "Weak scaling over 4 processes" in page
    shown = ("A step's parts, and the all-reduce", "Prediction: a step's time against")
    assert [page.count(f'alt="{text}') for text in shown] == [3, 2]
