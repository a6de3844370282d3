"""Two kernels more of softmax regression, that `softmax.py` declares: for many classes and for few.

L = −(1/m) Σ_pq Y_pq log P_pq with P = softmax(Z) by rows, Z = XW + b and one-hot labels Y. Since
∂ log P_pq/∂Z_pr = [q = r] − P_pr and each row of Y sums to 1, ∂L/∂Z = δ = (P − Y)/m; by the chain
rule through Z, ∂L/∂W = Xᵀδ and ∂L/∂b = 1ᵀδ. (Bishop 2006, Pattern Recognition and Machine
Learning, equation 4.109.)

Shapes: X (m, n), Y (m, c), of which the labels (m) are given, W (n, c), b (c). An exponential
counts as one operation, and what is done once for a row or a number of W as none.
"""

import torch

from mlr import kernel

BLOCK_BYTES = 2**19  # of δ: a quarter of a second-level cache of 2 MiB


def rows_at_once(m, c, s):
    """Return how many rows a block of δ has."""
    return min(m, max(1, BLOCK_BYTES // (c * s)))


@kernel(
    operation="softmax_regression",
    flops=lambda m, n, c, s: 4 * m * n * c + 4 * m * c,
    workspace=lambda m, n, c, s: s * (rows_at_once(m, c, s) * c + c + 1),
    devices=("cpu",),
)
def blocked(x, labels, w, b):
    """Add up m·∂L/∂W and m·∂L/∂b over blocks of rows, of which Z, P and then δ lie in the cache.

    Sums over rows can be taken so. Materialises a block, where `by_hand` has m·c numbers.
    """
    m, c, minus_one = len(x), len(b), b.new_full((1, 1), -1)
    rows = rows_at_once(m, c, x.itemsize)
    by_weight, by_bias, room = torch.zeros_like(w), torch.zeros_like(b), b.new_empty(rows, c)
    for some_x, some_labels in zip(x.split(rows), labels.split(rows), strict=True):
        delta = torch.addmm(b, some_x, w, out=room[: len(some_x)])
        torch.softmax(delta, 1, out=delta)
        delta.scatter_add_(1, some_labels[:, None], minus_one.expand(len(delta), 1))
        by_weight.addmm_(some_x.T, delta)
        by_bias += delta.sum(0)
    return by_weight.div_(m), by_bias.div_(m)


@kernel(
    operation="softmax_regression",
    flops=lambda m, n, c, s: 4 * m * n * c + 4 * m * c,
    workspace=lambda m, n, c, s: s * max(m * c, 2 * m * c - n * c - c),
)
def classes_first(x, labels, w, b):
    """Find Zᵀ, whose softmax is over columns: torch uses vectors for it, however few classes are.

    Over rows of 10 numbers torch's softmax takes several times as long.
    """
    delta = torch.addmm(b[:, None], w.T, x.T).softmax(0)
    delta.scatter_add_(0, labels[None], b.new_full((1, 1), -1).expand(1, len(x)))
    return (delta @ x).T.div_(len(x)), delta.sum(1).div_(len(x))
