"""The action for pull requests: its steps do on a local repository what they would do on GitHub.

Their scripts are run as GitHub runs them, with the environment that it sets. `gh` is a stand-in
that keeps comments in a file; the gate is one too, but in the test that is marked slow.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from paths import ROOT
from ruamel.yaml import YAML
from versions import commit

PATH = ROOT / "action.yml"
ACTION = YAML(typ="safe").load(PATH.read_text(encoding="utf-8"))
STEPS = ACTION["runs"]["steps"]
SHELL = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail")
MARKER = "<!-- mlr-bench: gate -->"
ARTIFACT = "https://example.org/artifact/7"
BOT, SOMEBODY = "github-actions[bot]", "octocat"

# It answers like GitHub, whose filter `--jq` is jq itself; without write permission as a fork's.
GH = """#!{python} -SE
import json, os, pathlib, subprocess, sys
args, store = sys.argv[1:], pathlib.Path({store!r})
state = json.loads(store.read_text())
comments, method, options = state["comments"], "GET", dict(zip(args, args[1:]))
state["asked"].append(args)
method = options.get("--method", "GET")
place = next(one for one in args[1:] if one.startswith("repos/"))
if method == "GET":
    done = subprocess.run(["jq", "-r", options["--jq"]], input=json.dumps(comments), text=True)
elif state["read_only"]:
    store.write_text(json.dumps(state))
    sys.exit("gh: Resource not accessible by integration (HTTP 403)")
else:
    name, _, file = options["--field"].partition("=@")
    body = {{name: pathlib.Path(file).read_text(encoding="utf-8")}}
    if method == "POST":
        body |= {{"id": len(comments) + 1, "user": {{"login": "github-actions[bot]"}}}}
        comments.append(body)
    else:
        comments[int(place.rpartition("/")[2]) - 1] |= body
store.write_text(json.dumps(state))
"""
# It finds the base in the repository, as the gate does, and ends as it is told.
GATE = """#!/bin/bash
printf '%s\\n' "$@" > "{folder}/arguments"
while [ "$1" != --out ]; do shift; done
out=$2
while [ "$1" != -- ]; do shift; done
git rev-parse --quiet --verify "$2^{{commit}}" > /dev/null || {{
  echo progress
  echo "error: '$2' is none of them \\`@octocat\\` $(printf '\\a\\r')" >&2
  exit 2; }}
[ ! -e "{folder}/comment" ] || cp "{folder}/comment" "$out/gate-comment.md"
echo '::error title=gate::a case'
status=$(cat "{folder}/status")
[ "$status" -ge 0 ] || kill "$status" $$
exit "$status"
"""


class Job(NamedTuple):
    """What a job did."""

    status: int
    log: str
    summary: str
    comments: list[dict[str, Any]]
    asked: list[list[str]]


class Runner:
    """A runner of GitHub with a checkout of two commits, at an event of a pull request."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.temporary, self.here = folder, folder / "temp", folder / "work"
        for one in (self.temporary, self.here, folder / "bin"):
            one.mkdir()
        self.store = folder / "comments.json"
        self.answer(read_only=False)
        self.program(folder / "bin" / "gh", GH.format(python=sys.executable, store=str(self.store)))
        self.base = ""

    def answer(self, read_only: bool, *comments: dict[str, Any]) -> None:
        """Set what GitHub holds, and whether the job may write to it."""
        state = {"comments": comments, "asked": [], "read_only": read_only}
        self.store.write_text(json.dumps(state))

    def program(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def two_commits(self) -> None:
        for text in ("base", "head"):
            (self.here / "kernel.py").write_text(text)
            commit(self.here, text)
        command = ["git", "rev-parse", "HEAD~1"]
        done = subprocess.run(command, cwd=self.here, text=True, capture_output=True, check=True)
        self.base = done.stdout.strip()

    def stand_in(self, status: int, comment: str | None = "### Gate: regression\n") -> None:
        """Put a gate where the action installs it, which ends with a status, or by a signal."""
        (self.folder / "status").write_text(str(status))
        (self.folder / "comment").unlink(missing_ok=True)
        if comment is not None:
            (self.folder / "comment").write_text(comment)
        program = self.temporary / "mlr-bench" / "bin" / "mlr-bench"
        self.program(program, GATE.format(folder=self.folder))

    def run(self, number: str = "5", install: bool = False, **inputs: str) -> Job:
        """Run the action; only with `install` the step of that name."""
        usual = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()}
        known = {
            "github.event.pull_request.base.sha": self.base,
            "github.event.pull_request.number": number,
            "github.token": "secret",
            "steps.python.outputs.python-path": sys.executable,
            "steps.artifact.outputs.artifact-url": ARTIFACT,
        }

        def evaluate(text: str) -> str:
            return re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda found: known[found[1]], text)

        known |= {f"inputs.{name}": evaluate(text) for name, text in usual.items()}
        known |= {f"inputs.{name.replace('_', '-')}": text for name, text in inputs.items()}
        files = {name: self.temporary / name.lower() for name in ("GITHUB_OUTPUT",
                 "GITHUB_STEP_SUMMARY")}  # fmt: skip
        for path in files.values():
            path.write_text("")
        outside = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": os.environ["HOME"],
            "RUNNER_TEMP": str(self.temporary),
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_ACTIONS": "true",
            "GITHUB_REPOSITORY": "octo/repo",
            **{name: str(path) for name, path in files.items()},
        }
        log, status = "", 0
        for step in STEPS:
            if "run" not in step or (step.get("name") == "Install" and not install):
                continue
            own = {name: evaluate(text) for name, text in step["env"].items()}
            assert step["shell"] == "bash"
            script = self.temporary / "script.sh"
            script.write_text(step["run"])
            here = self.here / evaluate(step.get("working-directory", "."))
            done = subprocess.run(
                [*SHELL, script], cwd=here, env=outside | own, text=True, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            log, status = log + done.stdout, done.returncode
            lines = files["GITHUB_OUTPUT"].read_text().splitlines()
            outputs = dict(line.split("=", 1) for line in lines)
            known |= {f"steps.gate.outputs.{name}": text for name, text in outputs.items()}
            if status:
                break
            if step.get("name") == "Install":  # what it needs besides is that of these tests
                (packages,) = self.temporary.glob("mlr-bench/lib/python*/site-packages")
                (packages / "present.pth").write_text(sysconfig.get_path("purelib"))
        state = json.loads(self.store.read_text())
        summary = files["GITHUB_STEP_SUMMARY"].read_text()
        return Job(status, log, summary, state["comments"], state["asked"])


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    if shutil.which("jq") is None:
        pytest.skip("jq, which is inside of gh, is not on this machine")
    made = Runner(tmp_path)
    made.two_commits()
    made.stand_in(1)
    return made


def test_it_keeps_to_the_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    command += ["vendor.github-actions", str(PATH)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_value_is_part_of_a_script() -> None:
    for step in STEPS:
        assert "${{" not in step.get("run", "")


def test_a_regression_fails_and_is_told_in_one_comment_which_the_next_run_renews(
    runner: Runner,
) -> None:
    theirs = {"id": 1, "user": {"login": SOMEBODY}, "body": f"look: {MARKER}"}
    runner.answer(False, theirs)
    job = runner.run()
    assert job.status == 1
    assert job.comments[0] == theirs  # also with the mark of ours
    (ours,) = job.comments[1:]
    assert ours["body"].splitlines()[0] == "### Gate: regression"
    assert ours["body"].splitlines()[-2:] == [f"[All of it: gate.md]({ARTIFACT})", MARKER]
    assert "::error title=gate::a case" in job.log
    runner.stand_in(0, "### Gate: no regression\n")
    job = runner.run()
    assert job.status == 0
    _, ours = job.comments
    assert ours["body"].startswith("### Gate: no regression\n")
    job = runner.run(name="other")  # a gate of another name has its own
    assert len(job.comments) == 3


def test_the_comment_has_forty_lines_at_most(runner: Runner) -> None:
    runner.stand_in(1, "line\n" * 36)  # as many as a verdict has: tests/bench/gate/test_output.py
    (ours,) = runner.run().comments
    assert len(ours["body"].splitlines()) <= 40


@pytest.mark.parametrize("read_only", [True, False])
def test_without_permission_or_a_pull_request_the_summary_is_all(
    read_only: bool, runner: Runner
) -> None:
    runner.answer(read_only)
    job = runner.run(number="5" if read_only else "")
    assert job.status == 1  # as the gate ended, whatever became of the comment
    assert job.comments == []
    said = (
        "in no comment: GitHub refused it (gh: Resource not accessible by integration (HTTP 403))"
    )
    assert (said in job.log) == read_only


def test_no_comment_is_written_where_none_is_wanted(runner: Runner) -> None:
    job = runner.run(comment="false")
    assert (job.status, job.asked) == (1, [])


@pytest.mark.parametrize(
    ("status", "fail_on", "ended"), [(1, "2,4", 0), (3, "1,2", 0), (3, "1,2,3,4", 3), (4, "4", 4)]
)
def test_which_statuses_fail_the_job_is_said(
    status: int, fail_on: str, ended: int, runner: Runner
) -> None:
    runner.stand_in(status)
    assert runner.run(fail_on=fail_on, comment="false").status == ended


@pytest.mark.parametrize(
    ("inputs", "rule"),
    [
        ({"fail_on": "one"}, "fail-on takes statuses from 1 to 4"),
        ({"fail_on": "1,"}, "fail-on takes statuses from 1 to 4"),
        ({"comment": "yes"}, "comment is true or false"),
        ({"working_directory": "none"}, "working-directory is a folder of the checkout; got none"),
    ],
)
def test_a_wrong_input_is_one_line_before_anything_is_installed(
    inputs: dict[str, str], rule: str, runner: Runner
) -> None:
    job = runner.run(**inputs)
    assert job.status == 2
    assert job.log.startswith(f"::error title=gate::{rule}")
    assert job.log.count("\n") == 1
    assert not (runner.folder / "arguments").exists()


def test_what_could_not_be_measured_is_told_in_its_last_line(runner: Runner) -> None:
    job = runner.run(base="no-such")
    assert job.status == 2
    (ours,) = job.comments
    told = "### Gate: could not measure\n\n    error: 'no-such' is none of them `@octocat` \n"
    assert ours["body"].startswith(told)  # indented it is code, in which nobody is mentioned
    assert job.summary == told


@pytest.mark.parametrize(
    ("status", "comment"),
    [
        (-11, None),  # an extension module that crashes when it is imported
        (-9, None),  # without memory
        (0, None),  # a package that ends the process
        (1, None),  # as Python ends where it finds no such command
        (7, "### Gate: no regression\n"),
        (-11, "### Gate: no regression\n"),  # after the verdict, at the end of the process
        (2, "### Gate: no regression\n"),  # or while the verdict is printed
    ],
)
def test_a_gate_that_crashes_fails_the_job_and_leaves_no_verdict(
    status: int, comment: str | None, runner: Runner
) -> None:
    runner.stand_in(status, comment)
    job = runner.run()
    assert job.status == 2
    (ours,) = job.comments
    assert ours["body"].startswith("### Gate: could not measure\n")
    assert "no regression" not in ours["body"]
    code = 128 - status if status < 0 else status
    rule = f"a gate must end with a verdict and a status from 0 to 4; it ended with {code}: "
    assert (rule in ours["body"]) == (status != 2)
    assert runner.run(fail_on="1", comment="false").status == 0  # who asks for it


def test_a_gate_of_a_folder_is_started_there(runner: Runner) -> None:
    (runner.here / "theirs").mkdir()
    program = runner.temporary / "mlr-bench" / "bin" / "mlr-bench"
    runner.program(program, "#!/bin/bash\npwd\nexit 2\n")
    (ours,) = runner.run(working_directory="theirs").comments
    assert f"    {runner.here / 'theirs'}\n" in ours["body"]


def test_values_are_words_and_nothing_that_a_shell_would_run(runner: Runner) -> None:
    evil = f"--kernel=a;touch {runner.here}/evil $(touch evil) `touch evil` *"
    job = runner.run(arguments=f"{evil}\n  --grid smoke\n", head="HEAD", max_time="3m; touch evil")
    assert job.status == 1
    assert not list(runner.folder.rglob("evil"))
    out = str(runner.temporary / "mlr-bench-gate")
    assert (runner.folder / "arguments").read_text().splitlines() == [
        *("gate", "--max-time", "3m; touch evil", "--out", out, *evil.split()),
        *("--grid", "smoke", "--", runner.base, "HEAD"),
    ]
    job = runner.run(base="$(touch evil)", name="$(touch evil)", comment="true")
    assert job.status == 2
    assert not list(runner.folder.rglob("evil"))


@pytest.mark.slow
def test_the_installed_gate_finds_what_a_commit_adds(tmp_path: Path) -> None:
    """All of it is real but `gh`: the install, without dependencies, and the gate."""
    runner = Runner(tmp_path)
    shutil.copytree(ROOT / "mlr", runner.here / "mlr")
    commit(runner.here, "base")
    runner.base = "HEAD~1"
    path = runner.here / "mlr" / "gradients.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("x.T @ delta", "x.T.clone() @ delta"), encoding="utf-8")
    commit(runner.here, "copies X")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    arguments = "--kernel matmul --dtype float64 --batch 100 --features 6 --outputs 3"
    offline = "--no-deps --no-index"
    job = runner.run(
        install=True, version=str(wheel), requirements=offline, arguments=arguments, max_time="20s"
    )
    assert job.status == 1, job.log
    (ours,) = job.comments
    assert ours["body"].startswith("### Gate: regression\n")
    assert "bytes" in ours["body"]
    assert job.summary.startswith("### Gate: ")
