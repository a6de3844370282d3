"""Gives a process a fake GPU: Python imports this at its start, from a folder on PYTHONPATH.

Of a program that pytest-benchmark asks after the processor it would only take seconds.
"""

import sys

if "cpuinfo" not in sys.orig_argv:
    import fake_cuda

    fake_cuda.install()
    fake_cuda.shorten_measuring()
