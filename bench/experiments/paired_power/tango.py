"""The rule of tango on one process: each pair of a file of functions, sample beside sample.

Started with the file, it prints the samples of each pair as a line of JSON.
"""

import json
import math
import runpy
import statistics
import sys
from collections.abc import Sequence
from functools import partial

from ...common.garbage import gc_paused
from ...machine.devices import Call
from ...measure.timing import repeats_of, time_batch, wall_clock, warm_up
from .analysis import CONTENT

HOW: dict[str, float] = CONTENT["tango"]  # as `sessions.toml` explains it
SIDES = ("theirs", "ours")
Samples = Sequence[tuple[float, float]]  # the seconds of a call of theirs, and of ours


def fails(samples: Samples) -> bool:
    """Say whether ours is slower, beyond the noise and significantly."""
    differences = [ours - theirs for theirs, ours in samples]
    mean = statistics.mean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    beyond_noise = mean > HOW["noise"] * statistics.mean(theirs for theirs, _ in samples)
    return beyond_noise and mean >= HOW["significant"] * error


def sample(theirs: Call, ours: Call) -> Samples:
    """Take samples of both in turns; each goes first in every other."""
    about_s = max(warm_up(call, "cpu") for call in (theirs, ours))
    repeats, until = repeats_of(about_s, HOW["slice_s"]), wall_clock() + HOW["seconds"]
    found: list[tuple[float, float]] = []
    with gc_paused():
        while wall_clock() < until or len(found) < 2:
            order = (theirs, ours) if len(found) % 2 else (ours, theirs)
            seconds = {call: time_batch(call, repeats, "cpu").seconds for call in order}
            found.append((seconds[theirs], seconds[ours]))
    return found


def main(path: str) -> None:
    """Print the samples of each pair of a file, `{"name": [[theirs, ours], …]}`."""
    functions = runpy.run_path(path)
    for made, make in functions.items():
        if made.startswith("make_"):
            name, values = made.removeprefix("make_"), make()
            theirs, ours = (partial(functions[f"{one}_{name}"], *values) for one in SIDES)
            print(json.dumps({name: sample(theirs, ours)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
