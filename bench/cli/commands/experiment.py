"""Prove the suite itself: try the gate on what is known, repeat whole runs, meet a GPU."""

from ...experiments.__main__ import add_arguments as add_arguments
from ...experiments.__main__ import run as run
