"""One benchmark in this process -> a sample: checks, times, memory, side effects, what else ran.

With `machine.devices` the only chapter that touches clocks and allocators.
"""

import torch

# Products of float32 in float32. TF32, which a container may have switched on by
# TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, keeps 10 bits of a number: every kernel would be wrong by it.
torch.set_float32_matmul_precision("highest")
