"""What a process knows of its fake device: whether it still has it, and how far that is behind."""

from types import SimpleNamespace

import torch

ILLEGAL = "CUDA error: an illegal memory access was encountered"
STATE = SimpleNamespace(lost=False, behind_s=0.0, current=0, recorder=None)


def lose_context() -> None:
    """Let this process have done an illegal access."""
    STATE.lost = True
    require_context()


def require_context() -> None:
    """Raise what every call raises after an illegal access."""
    if STATE.lost:
        raise torch.AcceleratorError(ILLEGAL)
