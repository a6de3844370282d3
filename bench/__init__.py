"""How the kernels of mlr are measured, stored and shown; run from a checkout, not installed."""
