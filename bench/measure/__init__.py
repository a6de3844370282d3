"""One benchmark in this process -> a sample: checks, times, memory, side effects, what else ran.

The only chapter that touches clocks and allocators.
"""
