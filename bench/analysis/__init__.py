"""Frame -> frame: the fastest kernel, the Jacobian's overhead, growth, crossovers, comparisons.

Every function is pure; needs no torch.
"""
