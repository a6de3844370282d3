"""A gate that ends after its first block, however long that takes: its clock ticks once a look."""

import sys
from itertools import count

from bench.cli.main import main
from bench.gate import gate

if __name__ == "__main__":
    ticks = count()
    gate.wall_clock = lambda: float(next(ticks))
    sys.exit(main(["gate", "--max-time=1s", *sys.argv[1:]]))
