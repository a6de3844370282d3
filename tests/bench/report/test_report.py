"""Report: whole or not at all, the same bytes for the same run, text out of a run is data."""

import errno
import re
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from reports import blank_figures, links, snapshot
from run_builder import FEW_KERNELS, KERNELS, build_run, cases, disturb, doubt, fail, save, spoil

from bench.analysis.frame import leads
from bench.common.errors import UserError
from bench.overhead.section import every_subject
from bench.report.answers import answers, newest_changes
from bench.report.build import analyses_of, write_report, write_table
from bench.report.html import all_results
from bench.report.markdown import Markdown, escape, markdown_table, render_template
from bench.report.sections import fastest_section
from bench.store.runs import load_frame, load_run

FEW = ((33, 6, 3), (100, 6, 3), (100, 6, 30), (10_000, 256, 64))
HOSTILE = "a|b`c`<script>alert(1)</script>\n# x\x1b[31m __y__ $z$ ![i](http://e.x) www.e.x"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing, which has tests of its own."""
    blank_figures(monkeypatch)


def reported(out: Path, *runs: Path) -> str:
    """Write the report of some runs, and return its text."""
    write_report(runs, out, every_subject())
    return (out / "REPORT.md").read_text(encoding="utf-8")


def detailed(*runs: Path) -> str:
    """Return what the page tells of some runs beside its charts, as Markdown."""
    found = analyses_of({path: load_run(path) for path in runs}, load_frame(runs))
    parts = [part for one in found for part in one.parts.values()]
    return "\n\n".join([fastest_section(load_frame(runs)).body, *parts])


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    run = build_run(["gradient", "step"], FEW, kernels=FEW_KERNELS)
    return save(run, folder / "amd" / "a.json")


def test_a_real_report(tmp_path: Path) -> None:
    run = build_run(["gradient"], FEW[:2], kernels=FEW_KERNELS)
    stored = save(run, tmp_path / "a.json")
    before = stored.read_bytes()
    written, _ = write_report([stored], tmp_path / "out", every_subject())
    files = snapshot(tmp_path / "out")
    assert {str(path.relative_to(tmp_path / "out")) for path in written} == set(files)
    text = files["REPORT.md"].decode()
    assert len(links(text)) == 5
    assert set(links(text)) <= set(files)
    pictures = [content for name, content in files.items() if name.endswith(".png")]
    assert len(pictures) == 5
    assert all(content.startswith(b"\x89PNG") for content in pictures)
    assert stored.read_bytes() == before


@pytest.mark.usefixtures("quick")
def test_report_says_what_was_found_and_how(tmp_path: Path, stored: Path) -> None:
    text = reported(tmp_path, stored)
    for expected in (
        "**matmul** is the fastest most often, ties included: at all 4 sizes.",
        "A gradient that forms the Jacobian takes 4.33× to ",
        "1 of 20 planned cases have no result. 1 infeasible, most often **kron_einsum**",
        "0123456789",
        "run a",
        "8.63 µs (8.37–9.32)",
        "needs 83886211088 bytes, 6250000000 are free",
    ):
        assert expected in text
    assert str(tmp_path) not in text
    text = detailed(stored)
    for expected in (
        "| commit ",
        "0123456789abcdef0123456789abcdef01234567",
        "2026-11-23T05:00:00+00:00",
        "| ceiling of cpu: float64 ",
        "| 82.0 GFLOP/s ",
        "setting allocator.MALLOC_MMAP_THRESHOLD",
        "torch 2.13.0+cpu",
        "8.63 µs (8.37–9.32)",
        "needs 83886211088 bytes, 6250000000 are free",
    ):
        assert expected in text
    assert str(tmp_path) not in text


@pytest.mark.usefixtures("quick")
def test_warnings_are_marked_told_and_explained(tmp_path: Path, stored: Path) -> None:
    run = build_run(["gradient"], FEW[:2], kernels=FEW_KERNELS, processes=5)
    doubt(run, run["outcomes"][0], [HOSTILE[:60], "few rounds: 3 over all processes"])
    doubt(run, run["outcomes"][1], [], untracked_bytes=2**20)
    disturb(run, run["outcomes"][1], 2)
    path = save(run, tmp_path / "a.json")
    text = reported(tmp_path / "out", path)
    assert "<script>" not in text
    assert "2 of 6 measured cases have a warning; for example autograd" in text
    assert "not ranked: matmul †" in text
    section = detailed(path).split("taken again")
    assert section[0].endswith("2 of 31 samples disturbed, 1 ")
    for said in ("few rounds: 3 over all processes", "2 of 6 measured", "1.00 MiB"):
        assert said in section[1]
    remarks = all_results(load_frame([path])).set_index(["kernel", "case"])["remark"]
    assert remarks["autograd", "33x6x3"].endswith("few rounds: 3 over all processes")
    assert remarks["matmul", "33x6x3"] == "disturbed in 2 processes"
    old = reported(tmp_path / "old", stored) + detailed(stored)
    assert "a warning;" not in old
    assert "disturbed" not in old.replace("It is *disturbed* where", "")


@pytest.mark.usefixtures("quick")
def test_processes_and_their_cost_are_told(tmp_path: Path) -> None:
    for processes, said in ((1, r"\| processes +\| 1 "), (5, r"\| processes +\| 5 ")):
        run = build_run(["gradient"], FEW[:1], kernels=FEW_KERNELS, processes=processes)
        path = save(run, tmp_path / f"{processes}.json")
        assert "with a single process" in reported(tmp_path / str(processes), path)
        text = detailed(path)
        assert re.search(said, text)
        assert ("17.5 %: processes and imports" in text) is (processes > 1)
        assert ("timing 50.0 %, warm-up 15.0 %" in text) is (processes > 1)
    assert max(len(line) for line in text.splitlines() if line.startswith("| ceiling")) < 120


def test_growth_and_crossovers_are_told(tmp_path: Path) -> None:
    laws = {name: KERNELS["gradient"][name] for name in ("autograd", "matmul", "kron_einsum")}
    laws["late"] = (2e-4, 1e-12, "n * o")
    sizes = [(10**k, 16, 8) for k in range(2, 7)]
    run = build_run(["gradient"], sizes, kernels={"gradient": laws}, processes=5)
    run["machine"]["ceilings"] = {}  # no bound, which these laws would be beyond
    text = detailed(save(run, tmp_path / "a.json"))
    growth = text.split("### Empirical complexity")[1].split("\n###")[0]
    assert re.search(r"\| kron_einsum +\| m: 1,000–\S+ +\| n = 16, o = 8 +\| (0.9|1.0)", growth)
    assert re.search(r"\| late +\| \S+ \S+ +\| n = 16, o = 8 +\| no asymptotic regime", growth)
    points = text.split("### Crossover points")[1].split("\n###")[0]
    assert re.search(r"\| matmul +\| late +\| m ≈ [\d,]+ \(between 10,000 and 100,000\)", points)


def test_a_run_without_ceilings_has_no_roofline(tmp_path: Path) -> None:
    run = build_run(["gradient"], FEW[:1], kernels=FEW_KERNELS)
    run["machine"]["ceilings"] = {}
    write_report([save(run, tmp_path / "a.json")], tmp_path / "out")
    assert not [path for path in (tmp_path / "out" / "figures").iterdir() if "roof" in path.name]
    assert "roofline-" not in (tmp_path / "out" / "REPORT.md").read_text()


@pytest.mark.usefixtures("quick")
def test_machines_and_runs_are_never_pooled(tmp_path: Path, stored: Path) -> None:
    again = save(build_run(["gradient"], FEW[:1], kernels=FEW_KERNELS), tmp_path / "b.json")
    other = save(
        build_run(["gradient"], FEW[:1], device="cuda:0", slug="zen", kernels=FEW_KERNELS),
        tmp_path / "a.json",
    )
    write_report([other, again, stored], tmp_path / "out", page=True)
    text = (tmp_path / "out" / "REPORT.md").read_text()
    titles = re.findall(r"^## (.*), 1 thread$", text, re.MULTILINE)
    assert titles == ["amd-epyc-2-core, cpu", "zen, cuda:0"]
    assert "at all 4 sizes" in text.split("## zen")[0]  # of which one is in two runs
    assert re.findall(r"^\* (\S+), commit .*, run (\w), ", text, re.MULTILINE) == [
        ("amd-epyc-2-core", "a"), ("amd-epyc-2-core", "b"), ("zen", "a")
    ]  # fmt: skip
    assert set(links(text)) <= set(snapshot(tmp_path / "out"))
    figures = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert "amd-epyc-2-core-b-gradient-cpu-float64-time.png" in figures
    assert "zen-gradient-cuda-0-float64-time.png" in figures
    rows = [line for line in text.splitlines() if "→" in line and "| zen" in line]
    assert len(rows) == 1


@pytest.mark.usefixtures("quick")
def test_hostile_text_is_data(tmp_path: Path) -> None:
    run = build_run(["gradient"], [*FEW[:2], (10_000, 6, 3)])
    spoil(run, HOSTILE)
    run["commit_info"]["id"] = "`|<"
    run["settings"]["half"] = "\ud800"
    run["packages"]["<img>"] = "|"
    path = save(run, tmp_path / "x|<b>.json")
    write_report([path], tmp_path / "out")
    write_table(load_frame([path]), tmp_path / "out" / "results.csv")
    text = (tmp_path / "out" / "REPORT.md").read_text()
    for body in (re.sub(r'<a id="part-\d+"></a>', "", text.split("\n", 1)[1]), detailed(path)):
        assert "<" not in body
        assert "`c`" not in body
        assert "http://" not in body
        assert all(line.isprintable() for line in body.splitlines())
        for table in re.findall(r"(?:^\|.*\n)+", body, re.MULTILINE):
            assert len({line.count("|") for line in table.splitlines()}) == 1
    for name, content in snapshot(tmp_path / "out").items():
        assert name.isprintable()
        assert b"\x1b" not in content or name.endswith(".png")


@pytest.mark.parametrize("char", list("\\`*[]~|$<>&_"))
def test_escape_leaves_no_markup(char: str) -> None:
    shown = escape(f"a {char}{char} b")
    assert re.fullmatch(r"a &(#\d+|lt|gt|amp);&(#\d+|lt|gt|amp); b", shown)
    assert escape("kron_einsum") == "kron_einsum"


def test_empty_table_is_still_one() -> None:
    assert markdown_table(pd.DataFrame({"a": [], "b": []})).count("\n") == 1


@pytest.mark.usefixtures("quick")
def test_the_fastest_kernel_is_told_at_every_size(tmp_path: Path) -> None:
    laws = {name: KERNELS["gradient"][name] for name in ("autograd", "matmul")}
    near = {"gradient": laws | {"nearly": (9.01e-6, 2.5e-11, "n * o + o")}}
    runs = [build_run(["gradient"], FEW[:2], kernels=near),
            build_run(["gradient", "step"], FEW[1:3], kernels=FEW_KERNELS, dtype="float32"),
            build_run(["gradient"], FEW[:1], kernels=FEW_KERNELS, device="cuda:0")]  # fmt: skip
    paths = [save(run, tmp_path / f"{name}.json") for name, run in zip("abc", runs, strict=True)]
    section = fastest_section(load_frame(paths)).body
    found = re.findall(r"^(Gradient|Step) (.*):$", section, re.MULTILINE)
    assert found == [("Gradient", "on cpu in float32 with 1 thread"),
                     ("Gradient", "in float64 with 1 thread"),
                     ("Step", "on cpu in float32 with 1 thread")]  # fmt: skip
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines()
            if re.match(r"\| \d", line)]  # fmt: skip
    sizes = ("100 × 6 → 3", "100 × 6 → 30")
    assert [row[:2] for row in rows] == [
        *([size, "matmul"] for size in sizes),
        ["33 × 6 → 3", "matmul ≈ nearly"],
        ["33 × 6 → 3", "matmul"],
        ["100 × 6 → 3", "matmul ≈ nearly"],
        *([size, "fused_addmm"] for size in sizes),
    ]
    assert [row[5:] for row in rows[2:5]] == [["cpu", "a"], ["cuda:0", "c"], ["cpu", "a"]]
    # What all rows of a table share has no column.
    assert {len(row) for row in rows[:2] + rows[5:]} == {5}
    text = reported(tmp_path / "out", *paths)
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles[:3] == ["amd-epyc-2-core, cpu, 1 thread", "amd-epyc-2-core, cuda:0, 1 thread",
                          "Which kernel at which size?"]  # fmt: skip
    table = text.split(titles[2])[-1].split("\n## ")[0]
    assert re.findall(r"^\| (gradient|step), (float\d\d) +\|", table, re.MULTILINE) == [
        ("gradient", "float32"), ("gradient", "float64"), ("step", "float32"),
        ("gradient", "float64"),
    ]  # fmt: skip


@pytest.mark.usefixtures("quick")
def test_the_answers_stand_first_with_their_figures(tmp_path: Path, stored: Path) -> None:
    text = reported(tmp_path, stored)
    answers = text.split("## amd-epyc-2-core, cpu, 1 thread")[1].split("\n<a id")[0]
    questions = re.findall(
        r"^\* \*\*(.*?\?)\*\* (?:about )?[\d.,]+(?:×| of| %)", answers, re.MULTILINE
    )
    assert questions == ["Which kernel for a gradient?", "Which kernel for a step?",
                         "What does the Jacobian cost?", "How near to the hardware limit?",
                         "What could not run?"]  # fmt: skip


@pytest.mark.usefixtures("quick")
def test_the_report_is_as_short_however_many_sizes_there_are(tmp_path: Path) -> None:
    sizes = [(10 * 2**k, 6 + n, 3) for k in range(12) for n in range(20)]
    lines = []
    for some in (sizes[::40], sizes):
        run = build_run(["gradient", "step"], some, kernels=FEW_KERNELS)
        path = save(run, tmp_path / f"{len(some)}.json")
        lines.append(reported(tmp_path / "out", path).count("\n"))
    assert lines[0] == lines[1]


@pytest.mark.usefixtures("quick")
def test_the_contents_lead_to_every_section(tmp_path: Path) -> None:
    run = build_run(["gradient"], FEW[:2], kernels=FEW_KERNELS)
    there = build_run(["gradient"], FEW[:2], kernels=FEW_KERNELS, slug="there")
    paths = [save(run, tmp_path / "x|<b>_&(1)" / "a_b *c*.json"),
             save(there, tmp_path / "there" / "a_b *c*.json")]  # fmt: skip
    text = reported(tmp_path / "out", *paths)
    head = text.split("\n## ")[0]
    led = re.findall(r"^\* \[(.*)\]\(#(.*)\)$", head, re.MULTILINE)
    anchored = re.findall(r'^<a id="(.*)"></a>\n\n## (.*)$', text, re.MULTILINE)
    assert led == [(title, name) for name, title in anchored]
    opening = [f"{slug}, cpu, 1 thread" for slug in ("amd-epyc-2-core", "there")]
    titles = [*opening, *(title for title, _ in led)]
    assert titles == re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert len({name for name, _ in anchored}) == len(led)


@pytest.mark.usefixtures("quick")
def test_little_to_say(tmp_path: Path) -> None:
    empty = build_run([], slug="empty")
    failed = build_run(["gradient"], FEW[:1], slug="failed")
    for outcome in failed["outcomes"]:
        fail(failed, outcome, "timeout", None)
    step = build_run(["step"], FEW[:1], slug="step")
    runs = [save(run, tmp_path / f"{run['machine']['slug']}.json") for run in (empty, failed, step)]
    text = reported(tmp_path / "out", *runs)
    for expected in ("nothing was planned", "No case has a time", "no reason was recorded"):
        assert expected in text
    assert "Nothing was planned." in detailed(*runs)


@pytest.mark.usefixtures("quick")
def test_full_disk_keeps_the_old_report(
    tmp_path: Path, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_report([stored], out)
    before = snapshot(out)
    later = save(build_run(["gradient"], FEW[:1], kernels=FEW_KERNELS), tmp_path / "later.json")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(UserError, match="No space left"):
        write_report([later], out)
    assert snapshot(out) == before
    assert sorted(path.name for path in out.iterdir()) == ["REPORT.md", "figures"]


@pytest.mark.usefixtures("quick")
def test_refusals(tmp_path: Path, stored: Path) -> None:
    with pytest.raises(UserError, match="none was given"):
        write_report([], tmp_path / "out")
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="a report must be writable"):
            write_report([stored], out)
    broken = tmp_path / "broken.json"
    broken.write_bytes(stored.read_bytes()[:1000])
    with pytest.raises(UserError, match="truncated"):
        write_report([stored, broken], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["REPORT.md", "figures/mine.png"])
def test_what_others_wrote_is_kept(name: str, tmp_path: Path, stored: Path) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match="another origin"):
        write_report([stored], tmp_path)
    assert snapshot(tmp_path) == {name: b"mine"}


@pytest.mark.usefixtures("quick")
def test_neighbours_stay_and_stale_files_go(tmp_path: Path, stored: Path) -> None:
    (tmp_path / "README.md").write_text("about")
    write_report([stored], tmp_path)
    (tmp_path / "figures" / "old.png").write_text("stale")
    write_report([stored], tmp_path)
    assert (tmp_path / "README.md").read_text() == "about"
    assert not (tmp_path / "figures" / "old.png").exists()


def test_an_answer_names_the_kernel_that_is_the_fastest_most_often(tmp_path: Path) -> None:
    laws = {name: KERNELS["gradient"][name] for name in ("autograd", "matmul", "einsum")}
    laws["einsum"] = (2e-5, 2e-12, "n * o")
    run = build_run(["gradient"], FEW, kernels={"gradient": laws})
    run["machine"]["ceilings"] = {}
    frame = load_frame([save(run, tmp_path / "a.json")])
    said = answers(frame, newest_changes([]))[0].said
    assert said == "**matmul** is the fastest most often, ties included: at 3 of 4 sizes."
    both = frame.assign(cold_s=frame["median_s"] * 2, speedup_cold=4.0, speedup_cold_low=3.0,
                        speedup_cold_high=5.0)  # fmt: skip
    told = answers(both, newest_changes([]))[0].said
    assert told == f"{said} With inputs from memory the fastest kernel is 4.00× as fast."


@pytest.mark.usefixtures("quick")
def test_a_size_counts_once_however_many_runs_have_it(tmp_path: Path) -> None:
    """Two runs of two commits hold the same cases: each is of one of them, and none is pooled."""
    runs = [build_run(["step"], FEW[:3], kernels=FEW_KERNELS) for _ in range(2)]
    runs[1]["commit_info"]["id"] = "f" * 40
    paths = [save(run, tmp_path / f"{name}.json") for run, name in zip(runs, "ab", strict=True)]
    frame = load_frame(paths)
    assert frame[leads(frame)]["run"].unique().tolist() == ["b"]
    text = reported(tmp_path / "out", *paths)
    assert text.count("at all 3 sizes") == 1
    assert re.findall("commit (....)", text.split("## Runs")[1]) == ["0123", "ffff"]


def test_samples_are_counted_for_each_number_of_threads(tmp_path: Path) -> None:
    runs = [build_run(["step"], FEW[:2], kernels=FEW_KERNELS, processes=5) for _ in range(2)]
    for entry in cases(runs[1]):
        entry["threads"] = 2
    for name in ("outcomes", "benchmarks"):
        for entry in runs[1][name]:
            entry["fullname"] += "-2threads"
        runs[0][name] += runs[1][name]
    runs[0]["settings"]["threads"] = [1, 2]
    path = save(runs[0], tmp_path / "a.json")
    analyses = analyses_of({path: load_run(path)}, load_frame([path]))
    assert [len(one.samples) for one in analyses] == [5 * len(runs[1]["benchmarks"])] * 2


def test_a_template_escapes_what_is_not_markdown_already() -> None:
    given = {"name": "a|b", "count": 2, "days": [], "commits": "<d>"}
    said = render_template("trials", rates=Markdown("*c*"), **given)
    assert said == "*c*\n\n2 trials on a&#124;b, of commits &lt;d&gt;."


@pytest.mark.usefixtures("quick")
def test_runs_of_one_machine_that_differ_in_a_setting_are_not_summed_up(tmp_path: Path) -> None:
    runs = [build_run(["step"], ((33, 6, 3),)) for _ in range(2)]
    runs[0]["settings"]["tf32"], runs[1]["settings"]["tf32"] = 1, 7
    paths = [save(run, tmp_path / f"{name}.json") for run, name in zip(runs, "ab", strict=True)]
    with pytest.raises(UserError, match=r"tf32 is 1 in a\.json and 7 in b\.json"):
        write_report(paths, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    runs[1]["machine"]["slug"] = "other"
    write_report([paths[0], save(runs[1], tmp_path / "c.json")], tmp_path / "out")


@pytest.mark.usefixtures("quick")
def test_how_many_processes_a_grid_had_stands_where_they_differ(tmp_path: Path) -> None:
    paths = []
    for name, processes in (("a", 5), ("b", 3), ("c", 5)):
        run = build_run(["gradient"], FEW[:2], kernels=FEW_KERNELS, processes=processes)
        run["settings"]["grid"] = name
        paths.append(save(run, tmp_path / f"{name}.json"))
    section = fastest_section(load_frame(paths)).body
    rows = [line for line in section.splitlines() if "→" in line]
    assert rows[0].endswith("| processes   |")
    assert [row.split("|")[-2].strip() for row in rows[1:4]] == ["5", "3", "5"]
    assert "Timed in 3 to 5 processes," in section
    each = analyses_of({path: load_run(path) for path in paths}, load_frame(paths))
    assert [one.parts["method"].count("Timed in 3 processes,") for one in each] == [0, 1, 0]
    assert "| processes " not in fastest_section(load_frame([paths[0], paths[2]])).body
