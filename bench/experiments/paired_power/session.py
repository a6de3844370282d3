"""A session of pytest with `paired`, as a user starts it -> what it says of its pairs."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from ...common.errors import UserError, single_line
from ...common.paths import FOLDER, PACKAGE
from ...machine.lock import LOCK_VARIABLE
from ...store.files import first_error
from .analysis import PairRecord
from .pairs import Pair

PLUGIN = f"{PACKAGE}.plugin"
LONGEST_S = 1200.0  # of any command; a session ends by itself after --paired-max-time, 5 minutes
TESTED = re.compile(r"::test_(\w+)")  # in the id of a pair: its name


class CommandError(Exception):
    """A command failed; the text says how, in one line."""


def run_command(
    command: Sequence[str],
    folder: Path,
    accepted: Sequence[int] = (0,),
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end; of pytest's options only those that it is given count.

    Raises:
        CommandError: It took too long, or ended with another exit status than those `accepted`.
    """
    outside = os.environ if env is None else env
    own = {name: value for name, value in outside.items() if name != "PYTEST_ADDOPTS"}
    name = single_line(" ".join(command[1:4]))
    try:
        done = subprocess.run(
            command, cwd=folder, env=own, timeout=LONGEST_S, check=False, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{name} took longer than {LONGEST_S:g} s; killed") from error
    if done.returncode not in accepted:
        said = (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]
        raise CommandError(f"{name} ended with exit status {done.returncode}: {single_line(said)}")
    return done


def run_session(folder: Path, pairs: Sequence[Pair]) -> tuple[int, dict[str, PairRecord]]:
    """Run the tests of a folder with `paired`; return the exit status, and each pair by name.

    Raises:
        UserError: The session does not say of each pair, and of no other, how it ended.
    """
    out = folder / "paired.json"
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "--paired"]
    command += ["--paired-json", str(out), "test_pairs.py"]
    places = filter(None, (str(FOLDER.parent), os.environ.get("PYTHONPATH")))
    # The trials hold the machine already: a session that asked for it would wait for them.
    own = {"PYTHONPATH": os.pathsep.join(places), LOCK_VARIABLE: str(folder / "lock")}
    try:
        done = run_command(command, folder, (0, 1), os.environ | own)
        found = read_session(out, pairs)
    except (CommandError, ValueError, KeyError, TypeError, OSError) as error:
        why = first_error(error) if isinstance(error, ValidationError) else repr(error)
        raise UserError(
            f"a session must say of each of its pairs how it ended; {single_line(why)}; "
            "no trial was stored"
        ) from error
    return done.returncode, found


def read_session(path: Path, pairs: Sequence[Pair]) -> dict[str, PairRecord]:
    """Read what a session says of its pairs, by their names; a ValueError if any is missing."""
    document = json.loads(path.read_text(encoding="utf-8"))
    medians = [(one["extra_info"], one["stats"]["median"]) for one in document["benchmarks"]]
    both = zip(medians[::2], medians[1::2], strict=True)  # an entry of ours, and one of theirs
    timed = [said | {"ours_s": ours, "theirs_s": theirs} for (said, ours), (_, theirs) in both]
    known, found = {pair.name: pair for pair in pairs}, {}
    for said in [*timed, *document.get("untimed", ())]:
        named = TESTED.search(said["pair"])
        name = named[1] if named else said["pair"]
        if name not in known or name in found:
            raise ValueError(f"{name!r} is not one of its pairs, or is there twice")
        pair = known[name]
        drawn = {"function": pair.function, "size": pair.size, "slowed": pair.slowed}
        short = {"log_ratios": [round(one, 5) for one in said["log_ratios"]]}
        found[name] = PairRecord.model_validate(said | drawn | short)
    if left := sorted(known.keys() - found):
        raise ValueError(f"nothing is said of {', '.join(left)}")
    return found
