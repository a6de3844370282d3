"""Several runs of the same code: do they say the same, and do their intervals hold?"""
