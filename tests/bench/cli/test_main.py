"""The command line: a command is one module, and nothing else lists it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from bench.cli import commands
from bench.cli.main import command_files, main, make_parser

HEAVY = {"torch", "pandas", "matplotlib", "rich", "pydantic", "scipy", "numpy", "mlr", "pytest"}
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
        f"print({HEAVY} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_what_pytest_takes_is_passed_on_and_no_other_command_takes_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, command: called.append([program, *command]))
    options = ["--kernel", "matmul", "-q", "--benchmark-sort=mean", "-k", "not einsum", "-x"]
    main(["pytest", *options])
    ((program, *command),) = called
    assert program == command[0] == sys.executable
    assert command[-len(options) :] == options
    with pytest.raises(SystemExit) as ended:
        main(["machine", "--kernel", "matmul"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: unrecognized arguments: --kernel matmul")


def test_windows_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert main(["machine"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: the suite runs on Linux and macOS; got Windows"
    )


def test_a_command_that_is_stopped_while_it_is_loaded_says_so_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.cli.main.import_module", stop)
    assert main(["machine"]) == 130
    assert capsys.readouterr().err == "stopped\n"
