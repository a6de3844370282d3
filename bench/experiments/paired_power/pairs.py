"""Pairs of functions of which is known what is slower, drawn by a number, and their files."""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader

from ...report.markdown import RULES
from .analysis import CONTENT

ROUNDS: int = CONTENT["work"]["rounds"]  # of the work, in a call of theirs


class Work(NamedTuple):
    """What functions do, as `sessions.toml` explains it."""

    needs: str
    inputs: str
    work: str
    sizes: tuple[int, int]


FUNCTIONS = {name: Work(**one) for name, one in CONTENT["function"].items()}


class Pair(NamedTuple):
    """Two functions: theirs, and ours that does the same work or more."""

    function: str
    number: int  # among the pairs of its session
    size: int
    seed: int  # of the inputs
    slowed: float  # the share by which ours does more; 0 for a pair that is unchanged
    rounds: int = ROUNDS

    @property
    def name(self) -> str:
        """Its name in its session's files: `sorting_3`."""
        return f"{self.function}_{self.number}"

    @property
    def work(self) -> Work:
        """What both do."""
        return FUNCTIONS[self.function]

    @property
    def our_rounds(self) -> int:
        """How many rounds of the work a call of ours makes."""
        return round(self.rounds * (1 + self.slowed))


def draw(trial: int, count: int, slowed: float) -> list[Pair]:
    """Draw the pairs of a trial by its number: each function as often as any other, but for one.

    Of `count` pairs half, rounded up, are `slowed` by this share, if by any.
    """
    chance = random.Random(trial)
    names = chance.sample(list(FUNCTIONS), len(FUNCTIONS))
    slow = chance.sample(range(count), math.ceil(count / 2)) if slowed else []
    pairs = []
    for number in range(count):
        name = names[number % len(names)]
        size, seed = chance.randint(*FUNCTIONS[name].sizes), chance.randrange(2**31)
        pairs.append(Pair(name, number, size, seed, slowed if number in slow else 0.0))
    return pairs


def write_pairs(folder: Path, pairs: Sequence[Pair]) -> None:
    """Write the functions of pairs, and the tests that hand each pair to `paired`."""
    needs = sorted({pair.work.needs for pair in pairs})
    write_file(folder / "functions.py", needs=needs, pairs=pairs)
    write_file(folder / "test_pairs.py", pairs=pairs)


def write_file(path: Path, **values: Any) -> None:
    """Write a file from the template of its name."""
    environment = Environment(loader=PackageLoader(__package__, "files"), **RULES)
    text = environment.get_template(f"{path.name}.j2").render(values)
    path.write_text(f"{text}\n", encoding="utf-8")
