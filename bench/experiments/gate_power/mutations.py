"""Mistakes that people make in a kernel, each a change of one line, for the gate to find.

Every mutation returns what the kernel returned. What it costs more is what the gate should say.
"""

from pathlib import Path
from typing import NamedTuple

from mlr import Case


class Mutation(NamedTuple):
    """One mistake."""

    name: str  # what it is, in a few words
    kernel: str  # in which it is made
    case: Case  # on which it is looked for
    old: str  # the text of the kernel that it changes
    new: str  # what stands there instead

    def put_into(self, package: Path) -> None:
        """Change a copy of the package; a ValueError if its kernel does not hold the text once."""
        path = package / f"{self.case.operation}s.py"
        text = path.read_text(encoding="utf-8")
        before, at, rest = text.partition(f"def {self.kernel}(")
        body, end, after = rest.partition("\n@kernel(")
        if not at or body.count(self.old) != 1:
            raise ValueError(f"{self.kernel} in {path} must hold {self.old!r} once")
        changed = before + at + body.replace(self.old, self.new) + end + after
        path.write_text(changed, encoding="utf-8")


# The kernel; operation, dtype and sizes; the text that it holds, and what stands there instead.
MUTATIONS = tuple(
    Mutation(name, kernel, Case(operation, "cpu", dtype, *sizes), old, new)
    for name, kernel, operation, dtype, sizes, old, new in (
        ("an extra .contiguous()",
         "matmul", "gradient", "float64", (1_000, 64, 32),
         "x.T @ delta", "x.T.contiguous() @ delta"),
        ("addmm undone",
         "fused_addmm", "step", "float64", (1_000, 6, 3),
         "torch.addmm(bias, x, weight).sub_(y)", "(x @ weight + bias).sub_(y)"),
        ("a float64 upcast",
         "matmul", "gradient", "float32", (1_000, 64, 32),
         "x.T @ delta", "(x.double().T @ delta.double()).to(x.dtype)"),
        ("an extra temporary",
         "outer_sum", "gradient", "float64", (100, 64, 32),
         "delta[:, None, :]).sum(0)", "delta[:, None, :]).clone().sum(0)"),
        ("the Kronecker way",
         "factored_einsum", "gradient", "float64", (100, 16, 8),
         'torch.einsum("iq,qj->ij", torch.einsum("pq,pi->iq", delta, x), eye)',
         'torch.einsum("pq,pqij->ij", delta, _kron(x, eye).reshape(*delta.shape, x.shape[1], o))'),
        ("a Python loop over rows",
         "einsum", "gradient", "float64", (33, 16, 8),
         'torch.einsum("pi,pj->ij", x, delta)',
         "sum(row[:, None] * other for row, other in zip(x, delta))"),
        ("a lost in-place",
         "fused_addmm", "step", "float64", (10_000, 6, 3),
         "torch.addmm(bias, x, weight).sub_(y)", "torch.addmm(bias, x, weight) - y"),
    )
)  # fmt: skip
