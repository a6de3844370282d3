"""Workers of torchrun -> a stored scaling run -> what a report tells of it.

`measure` and `allreduce` measure; `records` is what is stored, `metrics` the statistics of it,
`link_model` the prediction beside it, `section` and `figures` what is shown.
"""
