"""The command line: a command is one module, and nothing else lists it."""

import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from bench.cli import commands
from bench.cli.main import command_files, main, make_parser

HELLO = '''"""Greet somebody by name."""

import nowhere_to_be_found


def add_arguments(parser):
    parser.add_argument("--name", default="you")


def run(arguments):
    print(f"hello {arguments.name}")
    return 3
'''


@pytest.mark.parametrize("name", command_files())
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: python -m bench {name}" in said
    assert max(map(len, said.splitlines())) <= 80


def test_a_module_is_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "say_hello.py").write_text(HELLO)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    assert "Greet somebody by name." in make_parser().format_help()  # which imports none
    assert main(["say-hello"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the command say-hello needs a package that cannot be imported")
    assert error.count("\n") == 1
    (tmp_path / "say_hello.py").write_text(HELLO.replace("import nowhere_to_be_found", ""))
    assert main(["say-hello", "--name=me"]) == 3
    assert capsys.readouterr().out == "hello me\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, bench.cli.main as b; b.make_parser().format_help(); "
        "print({'torch', 'pandas', 'matplotlib', 'rich'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
