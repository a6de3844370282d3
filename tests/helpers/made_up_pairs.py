"""A session of pytest with `paired` whose processes are made up: a test's name says its ratio.

`test_x[1.1]` takes about 1.1 times as long as theirs in every process, and holds twice the bytes.
It shows what becomes of a decision, in a second. `--end-by=Ctrl-C` ends it at the third process,
and `--end-by=UserError` as a process that cannot be started does.
"""

import math
import re
import sys

import pytest

from bench.common.errors import UserError
from bench.paired.session import Session

END_BY = next((one.partition("=")[2] for one in sys.argv if one.startswith("--end-by=")), "")


def made_up(session: Session, tests: list[str], found: dict[str, float]) -> None:
    """Take the place of a process."""
    how = {"Ctrl-C": KeyboardInterrupt, "UserError": UserError("no process")}.get(END_BY)
    if session._number == 2 and how is not None:
        raise how
    for test in tests:
        ratio = float(re.search(r"\[([\d.]+)", test)[1])
        for number in range(1, 1 + test.count("twice") + 1):
            name, own = f"{test}#{number}", ratio if number == 1 else 1.0
            limits = {"slower_than": 1.05, "larger_than": None, "against": None}
            pair = session._meet({"pair": name} | limits)
            pair.take(own * 1e-4, 1e-4, (2_000, 1_000))
            found[name] = math.log(own) + (-1) ** session._number * 1e-3


if __name__ == "__main__":
    Session._run_process = made_up
    others = [one for one in sys.argv[1:] if not one.startswith("--end-by=")]
    sys.exit(pytest.main(["-p", "bench.plugin", "--paired", *others]))
