"""One benchmark in this process -> a sample: checks, times, memory, side effects, what else ran.

With `machine` the only package that touches clocks and allocators.
"""
