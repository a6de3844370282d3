"""What is on disk -> checked records and one tidy frame: the schema of a run, runs, files.

Needs neither torch nor mlr.
"""
