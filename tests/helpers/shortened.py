"""Lets a process measure ceilings in a tenth of the time: their numbers are not what is tested.

A plugin of pytest, `-p shortened`, or a module that a program imports first.
"""

from bench.machine.devices import Device

Device.gemm_sizes, Device.working_sets = (64,), (2**15, 2**20)
