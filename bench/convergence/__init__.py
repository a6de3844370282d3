"""Ways of training -> the time that each takes to reach a target loss.

`run` starts processes that run `worker`, which trains with every one of `trainers`; `records` is
what is stored, `section` what a report tells of it.
"""
