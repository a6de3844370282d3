"""Gives a process a fake GPU: Python imports this at its start, from a folder on PYTHONPATH."""

import fake_cuda

fake_cuda.install()
fake_cuda.shorten_measuring()
