"""Two versions of a package in one process: whichever way code imports, it finds its own, or fails.

The package knows which version it is by `HERE`, a constant of its module `own`.
"""

import builtins
import importlib.util
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from repositories import write
from versions import forgetting_packages

from bench.gate.imports import REFUSED, VersionModules

PACKAGE = {
    "__init__.py": "from .own import HERE\n",
    "own.py": "HERE = {number}\n",
    "late.py": "from .own import HERE\nfrom theirs import other\n",
    "other.py": "import theirs.own\nHERE = theirs.own.HERE\n",
}


@pytest.fixture(autouse=True)
def undone() -> Iterator[None]:
    """Forget the versions of a test."""
    with forgetting_packages("helper", "fine"):
        yield


def versions(
    place: Path, files: dict[str, str], inside: str = "theirs", name: str = "theirs"
) -> list[VersionModules]:
    """Write two versions of a package, whose files differ by their `{number}` alone."""
    found = []
    for number in (1, 2):
        numbered = {f"{inside}/{file}": text.replace("{number}", str(number))
                    for file, text in files.items()}  # fmt: skip
        folder = write(place / str(number), numbered)
        found.append(VersionModules([name], [(folder / inside).parent]))
    return found


def imported(version: VersionModules, name: str = "theirs") -> Any:
    """Import a module of a version, and return it when the version is no longer active."""
    with version.activated():
        return importlib.import_module(name)


def both(place: Path, text: str, **more: str) -> list[Any]:
    """Return a module of both versions, after both were loaded, which has this text besides."""
    files = PACKAGE | {"asked.py": text} | {f"{name}.py": one for name, one in more.items()}
    return [imported(one, "theirs.asked") for one in versions(place, files)]


@pytest.mark.parametrize(
    "statement",
    [
        "from theirs import HERE",
        "import theirs; HERE = theirs.HERE",
        "import theirs.own; HERE = theirs.own.HERE",
        "import theirs.own as it; HERE = it.HERE",
        "from theirs.own import HERE",
        "from theirs.own import *; HERE = locals().get('HERE')",
        "from . import HERE",
        "from .own import HERE",
        "from . import own; HERE = own.HERE",
        "from .late import HERE",
        "from . import late; HERE = late.HERE",
        "import theirs.late; HERE = theirs.late.other.HERE",
        "from theirs.late import other; HERE = other.HERE",
    ],
)
@pytest.mark.parametrize("late", [False, True], ids=["at once", "in a function"])
def test_an_import_statement_finds_the_modules_of_its_own_version(
    tmp_path: Path, statement: str, late: bool
) -> None:
    if late and "*" in statement:
        pytest.skip("Python has no such statement in a function")
    inside = f"def ask():\n    {statement}\n    return HERE\n"
    outside = f"{statement}\ndef ask():\n    return HERE\n"
    for _ in range(2):  # a second call finds what the first one did
        modules = both(tmp_path, inside if late else outside)
        assert [one.ask() for one in (*modules, *modules[::-1])] == [1, 2, 2, 1]
    assert "theirs" not in sys.modules
    assert REFUSED == []


def test_code_of_other_packages_imports_as_before(tmp_path: Path) -> None:
    text = "def ask():\n    import json.decoder, os as it\n    return json, it\n"
    for one in both(tmp_path, text):
        assert one.ask() == (sys.modules["json"], sys.modules["os"])
    assert vars(sys.modules["json"])["__builtins__"] is vars(builtins)


def test_an_import_cycle_and_a_module_that_is_only_run_later(tmp_path: Path) -> None:
    text = "from . import cycle\ndef ask():\n    return cycle.back().HERE\n"
    cycle = "import theirs.asked\nfrom .own import HERE\ndef back():\n    from . import late\n"
    modules = both(tmp_path, text, cycle=cycle + "    return late\n")
    assert [one.ask() for one in modules] == [1, 2]


LATER = {
    "sys.modules by its own name": "import sys\ndef ask(): return sys.modules[__name__]\n",
    "importlib.import_module": (
        "import importlib\ndef ask(): return importlib.import_module('theirs.own').HERE\n"
    ),
    "a pickle of its own class": (
        "import pickle\nclass One: pass\ndef ask(): return pickle.loads(pickle.dumps(One()))\n"
    ),
    "pkgutil": "import pkgutil\ndef ask(): return pkgutil.resolve_name('theirs.own:HERE')\n",
    "runpy": "import runpy\ndef ask(): return runpy.run_module('theirs.own')\n",
}


@pytest.mark.parametrize("text", LATER.values(), ids=LATER)
def test_what_asks_later_in_another_way_fails_and_is_never_given_another_version(
    tmp_path: Path, text: str
) -> None:
    for one in both(tmp_path, text):
        with pytest.raises(Exception, match="theirs"):
            one.ask()


def test_what_is_asked_for_at_import_is_there_in_any_way(tmp_path: Path) -> None:
    """While a version is loaded it has all that Python has."""
    for number, text in enumerate(LATER.values()):
        if "runpy" not in text:
            both(tmp_path / str(number), f"{text}FOUND = ask()\n")


def test_a_refusal_that_is_swallowed_is_noted_all_the_same(tmp_path: Path) -> None:
    """As of a package that would otherwise go on with its slower code."""
    text = (
        "import importlib\ndef ask():\n    try:\n"
        "        return importlib.import_module('theirs.own').HERE\n"
        "    except ImportError:\n        return 'slower'\n"
    )
    assert [one.ask() for one in both(tmp_path, text)] == ["slower", "slower"]
    assert REFUSED == ["theirs was asked for, and not by an import statement"] * 2


ANEW = {
    "a module's __getattr__": ("from theirs.lazy import found as it", "found of theirs.lazy"),
    "a module that there is not": ("import theirs.none as it", "theirs.none"),
    "a name that there is not": ("from theirs import none as it", "none of theirs"),
}


@pytest.mark.parametrize("how", ANEW)
def test_what_a_function_would_find_anew_at_every_call_is_noted(tmp_path: Path, how: str) -> None:
    """It takes hundreds of microseconds in one process, and next to none in one of its own."""
    statement, named = ANEW[how]
    text = (
        f"def ask():\n    try:\n        {statement}\n    except ImportError:\n        it = None\n"
        "    return it\nAT_ONCE = ask()\n"
    )
    lazy = "def __getattr__(name):\n    from .own import HERE\n    return HERE\n"
    modules = both(tmp_path, text, lazy=lazy)
    expected = [1, 2] if "lazy" in statement else [None, None]
    assert [one.AT_ONCE for one in modules] == expected
    assert REFUSED == []  # while a version is loaded Python finds it as ever
    assert [one.ask() for one in modules] == expected
    assert [f"{named} is found anew at every import"] * 2 == REFUSED


THREADS = """
import threading
began, inside, ended = (threading.Event() for _ in range(3))
def ask():
    from theirs import first
    ended.set()
    return first.HERE
def ask_meanwhile():
    inside.wait(9)
    from theirs import second
    return second.HERE
"""


def test_threads_that_import_at_once_do_so_one_after_the_other(tmp_path: Path) -> None:
    """Or the one would end, and take the modules with it, while the other is at its own."""
    first = "from .asked import began, inside\ninside.set()\nbegan.wait(0.3)\n"
    second = "from .asked import began, ended\nbegan.set()\nended.wait(0.3)\n"
    own = "from .own import HERE\n"
    modules = both(tmp_path, THREADS, first=first + own, second=second + own)
    for number, one in enumerate(modules, 1):
        with ThreadPoolExecutor() as threads:
            found = [threads.submit(ask) for ask in (one.ask, one.ask_meanwhile)]
            assert [each.result() for each in found] == [number, number]
    assert REFUSED == []


def test_type_hints_in_words_are_of_their_version_or_fail(tmp_path: Path) -> None:
    text = (
        "import typing\nclass One: pass\nclass Two:\n    one: 'One'\n"
        "def ask(): return typing.get_type_hints(Two)\n"
    )
    for module in both(tmp_path, text):
        with suppress(NameError):
            assert module.ask() == {"one": module.One}


def test_dataclasses_functions_made_later_and_type_hints_are_of_their_version(
    tmp_path: Path,
) -> None:
    text = (
        "import dataclasses, typing\nfrom theirs.own import HERE\n"
        "@dataclasses.dataclass(frozen=True)\nclass Held:\n    number: int = HERE\n"
        "def ask():\n    exec('from theirs.own import HERE as found', here := dict(globals()))\n"
        "    later = dataclasses.make_dataclass('Later', [('one', int, HERE)])\n"
        "    hints = typing.get_type_hints(ask_more)\n"
        "    return Held().number, here['found'], later().one, hints['return'] is Held\n"
        "def ask_more() -> 'Held': ...\n"
    )
    assert [one.ask() for one in both(tmp_path, text)] == [(1, 1, 1, True), (2, 2, 2, True)]


LAYOUTS = {
    "one module": ({"../theirs.py": "def ask():\n    import theirs\n    return {number}\n"},
                   "theirs"),
    "src": (PACKAGE | {"__init__.py": "def ask():\n    from .own import HERE as it; return it\n"},
            "src/theirs"),
    "a namespace package": ({"own.py": "HERE = {number}\n"}, "theirs"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_package_lies_as_it_likes(tmp_path: Path, layout: str) -> None:
    files, inside = LAYOUTS[layout]
    old, new = versions(tmp_path, files, inside)
    if "namespace" in layout:
        assert [imported(one, "theirs.own").HERE for one in (old, new, old)] == [1, 2, 1]
    else:
        modules = [imported(one) for one in (old, new)]
        assert [one.ask() for one in modules] == [1, 2]


def test_the_modules_that_were_there_before_are_there_afterwards(tmp_path: Path) -> None:
    installed = sys.modules["theirs"] = ModuleType("theirs")
    before = list(sys.path)
    for version in versions(tmp_path, PACKAGE):
        assert imported(version) is not installed
    assert sys.modules["theirs"] is installed
    assert sys.path == before


def test_a_module_that_a_version_lacks_is_not_taken_from_elsewhere(tmp_path: Path) -> None:
    """Neither from another version nor from an installed package or another finder."""
    (old, new), more = versions(tmp_path, PACKAGE), tmp_path / "2" / "theirs" / "more.py"
    more.write_text("HERE = 2\n")
    imported(new, "theirs.more")
    sys.path.insert(0, str(tmp_path / "2"))
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'theirs.more'"):
        imported(old, "theirs.more")
    with old.activated():
        assert importlib.util.find_spec("theirs.none") is None
    more.rename(tmp_path / "2" / "elsewhere.py")
    leading_out = f"__path__.append({str(tmp_path / '2')!r})"
    (tmp_path / "1" / "theirs" / "__init__.py").write_text(leading_out)
    importlib.invalidate_caches()
    again = VersionModules(["theirs"], [tmp_path / "1"])
    imported(again, "theirs.elsewhere")
    with pytest.raises(ImportError, match=r"theirs.elsewhere came from .*: have the version hold"):
        again.require_own(tmp_path / "1")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            "from theirs.own import HERE\nfrom theirs import ask\n",
            "helper lies beside the packages",
        ),
        ("HERE = 1\n", "helper lies beside the packages"),
        ("import theirs\n", "helper, which is imported once, uses the packages"),
        ("from theirs import Made as it\n", "helper, which is imported once, uses the packages"),
        ("from theirs import Made\nmade = Made()\ndel Made\n", "helper, which is imported once"),
    ],
)
def test_a_module_that_is_imported_once_and_uses_a_version_is_noticed(
    tmp_path: Path, text: str, part: str
) -> None:
    """It would give the head what it has of the base."""
    files = PACKAGE | {"__init__.py": "class Made: pass\ndef ask(): import helper\n",
                       "asked.py": "import helper\n"}  # fmt: skip
    old, _ = versions(tmp_path, files)
    place = tmp_path / "1" if "beside" in part else tmp_path / "installed"
    write(place, {"helper.py": text})
    sys.path.append(str(place))
    before = set(sys.modules)
    imported(old, "theirs.asked")
    with pytest.raises(ImportError, match=part):
        old.require_apart(tmp_path / "1", before)
    write(place, {"fine.py": "import json\n"})
    importlib.invalidate_caches()
    before = set(sys.modules)
    importlib.import_module("fine")
    old.require_apart(tmp_path / "elsewhere", before)


def test_a_version_alone_in_its_process_has_all_that_python_has(tmp_path: Path) -> None:
    write(tmp_path, {f"theirs/{name}": text.replace("{number}", "1")
                     for name, text in PACKAGE.items()})  # fmt: skip
    later = "".join(
        text.replace("def ask", f"def ask_{n}") for n, text in enumerate(LATER.values())
    )
    write(tmp_path, {"theirs/asked.py": later})
    VersionModules(["theirs"], [tmp_path], alone=True).activate()
    module = importlib.import_module("theirs.asked")
    for number in range(len(LATER)):
        getattr(module, f"ask_{number}")()
    assert vars(module)["__builtins__"] is vars(builtins)
