"""What the documents say can be done: their commands are taken, and their links lead somewhere.

The Python files that they show are run by tests of their own: `my.py` of README.md by
`tests/bench/run`, `softmax.py` by `tests/bench/test_examples.py`, `forward.py` of mlr/README.md by
`tests/mlr/test_registry.py`.
"""

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from paths import ROOT

from bench.cli.main import command_files, make_parser, parse

MAX_README_LINES = 200
MAX_OPERATION_LINES = 40
DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("mlr/**/*.md"), *ROOT.glob("bench/**/*.md"),
                 ROOT / "results" / "README.md")
)  # fmt: skip
ENVIRONMENTS = set(re.findall(r"^\[testenv:(\w+)\]", (ROOT / "tox.ini").read_text(), re.MULTILINE))


def commands_of(text: str) -> list[str]:
    """Every command that a document names, in a block or a line of its own."""
    blocks = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", text)
    shown = [line for language, block in blocks if not language for line in block.splitlines()]
    lines = [line.partition("  #")[0].strip() for line in shown]
    inline = re.findall(r"`((?:python -m (?:bench|mlr)|mlr-bench|pytest bench|tox)\b[^`]*)`", text)
    return [part.strip() for line in (*lines, *inline) if line for part in line.split("&&")]


TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in DOCUMENTS}
SHOWN = sorted({(name, shown) for name, text in TEXTS.items() for shown in commands_of(text)})


@pytest.mark.parametrize(("document", "command"), SHOWN)
def test_every_command_that_a_document_names_is_taken(
    document: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(command.replace("…", "").replace("\n", " "))
    if words[:2] == ["uvx", "--from"]:
        words = words[3:]
    if words[0] == "mlr-bench":
        words[:1] = ["python", "-m", "bench"]
    if words[:3] == ["python", "-m", "bench"]:
        monkeypatch.chdir(tmp_path)
        for option, file in pairwise(words):
            if option == "--kernel-file":  # whose axes are options
                shutil.copyfile(ROOT / "bench" / "examples" / "softmax.py", file)
        if words[3:]:
            assert words[3] in command_files()
            parse(words[3:])
    elif words[0] == "tox":
        assert {*words[words.index("-e") + 1].split(",")} <= ENVIRONMENTS if "-e" in words else True
        if words[1:3] in (["-e", "bench"], ["-e", "gate"]) and "--" in words:
            name = {"bench": "run", "gate": "gate"}[words[2]]
            make_parser(name).parse_args([name, *words[words.index("--") + 1 :]])
    else:
        known = ("pip install", "python -m pip install", "pytest", "python -m mlr", "ruff", "mypy",
                 "lint-imports", "python -m bench experiment", "torchrun", "git ",
                 "uv build")  # fmt: skip
        assert command.startswith(known), command


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= MAX_README_LINES


def test_the_readme_shows_the_page_in_pictures_of_few_bytes() -> None:
    shown = re.findall(r'<img src="([^"]+)" width="\d+%" alt="([^"]+)">', TEXTS["README.md"])
    assert [name for name, _ in shown] == [".github/page-desktop.png", ".github/page-phone.png"]
    for name, said in shown:
        assert 0 < (ROOT / name).stat().st_size < 150_000
        assert len(said) > 20


def test_the_operation_that_the_readme_shows_is_an_example() -> None:
    example = (ROOT / "bench" / "examples" / "softmax.py").read_text("utf-8")
    assert f"```python\n{example}```\n" in TEXTS["README.md"]
    assert len(example.splitlines()) <= MAX_OPERATION_LINES


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_to_a_file(name: str) -> None:
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", TEXTS[name]):
        assert (ROOT / Path(name).parent / link).exists(), link
