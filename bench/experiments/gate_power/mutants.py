"""Mistakes that people make in a kernel, each a change of one line, for the gate to find.

Every mutant returns what the kernel returned. What it costs more is what the gate should say.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mlr import OPERATIONS, Case

FILES = {"gradient": "gradients.py", "step": "steps.py"}


class Mutant(NamedTuple):
    """One mistake.

    Attributes:
        name: What it is, in a few words.
        kernel: The kernel it is made in.
        case: Where it is looked for.
        old: The text of the kernel that it changes.
        new: What stands there instead.
    """

    name: str
    kernel: str
    case: Case
    old: str
    new: str

    @property
    def bystander(self) -> str:
        """A kernel of the same stage that it does not touch."""
        return OPERATIONS[self.case.stage].baseline

    def put_into(self, package: Path) -> None:
        """Change a copy of the package.

        Raises:
            ValueError: If the kernel does not hold the text, or not once.
        """
        path = package / FILES[self.case.stage]
        text = path.read_text(encoding="utf-8")
        before, at, rest = text.partition(f"def {self.kernel}(")
        body, end, after = rest.partition("\n@kernel(")
        if not at or body.count(self.old) != 1:
            raise ValueError(f"{self.kernel} in {path} must hold {self.old!r} once")
        changed = before + at + body.replace(self.old, self.new) + end + after
        path.write_text(changed, encoding="utf-8")


def _gradient(dtype: str, m: int, n: int, o: int) -> Case:
    return Case("gradient", "cpu", dtype, m, n, o, seed=0)


def _step(m: int, n: int, o: int) -> Case:
    return Case("step", "cpu", "float64", m, n, o, seed=0)


MUTANTS = (
    Mutant(
        "an extra .contiguous()", "matmul", _gradient("float64", 1_000, 64, 32),
        "x.T @ delta", "x.T.contiguous() @ delta",
    ),
    Mutant(
        "addmm undone", "fused_addmm", _step(1_000, 6, 3),
        "torch.addmm(bias, x, weight).sub_(y)", "(x @ weight + bias).sub_(y)",
    ),
    Mutant(
        "a float64 upcast", "matmul", _gradient("float32", 1_000, 64, 32),
        "x.T @ delta", "(x.double().T @ delta.double()).to(x.dtype)",
    ),
    Mutant(
        "an extra temporary", "outer_sum", _gradient("float64", 100, 64, 32),
        "delta[:, None, :]).sum(0)", "delta[:, None, :]).clone().sum(0)",
    ),
    Mutant(
        "the Kronecker way", "factored_einsum", _gradient("float64", 100, 16, 8),
        'torch.einsum("iq,qj->ij", torch.einsum("pq,pi->iq", delta, x), eye)',
        'torch.einsum("pq,pqij->ij", delta, _kron(x, eye).reshape(*delta.shape, x.shape[1], o))',
    ),
    Mutant(
        "a Python loop over rows", "einsum", _gradient("float64", 33, 16, 8),
        'torch.einsum("pi,pj->ij", x, delta)',
        "sum(row[:, None] * other for row, other in zip(x, delta))",
    ),
    Mutant(
        "a lost in-place", "fused_addmm", _step(10_000, 6, 3),
        "torch.addmm(bias, x, weight).sub_(y)", "torch.addmm(bias, x, weight) - y",
    ),
)  # fmt: skip
