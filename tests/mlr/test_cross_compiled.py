"""The sweeps compiled by LLVM for processors that are not here: what their inner loops hold.

No register is spilled, no function called, and multiply-adds and loads are those of the layout.
"""

OPERATIONS = ("gradient", "step", "train", "loss")
DTYPES = ("float32", "float64")
# The notebook's, and about each border: the narrowest, the widest whose sums stay in the first
# cache, features side by side in a vector, and tiles with and without a rest.
BORDERS = [(1, 1), (6, 3), (14, 1), (1, 8), (64, 4), (32, 32), (16, 64), (33, 31), (1_000, 1)]
BORDERS += [(2, 512), (1, 1_024), (256, 64), (129, 9), (40, 130), (1_024, 33)]
FEW = [(6, 3), (32, 32), (129, 9)]
