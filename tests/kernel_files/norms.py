# norms.py: nothing of its costs is declared, nor how large its inputs are before they are drawn
import torch

from mlr import kernel, operation


@operation(axes={"count": (50, 5_000), "length": (3,)})
class lengths_of_rows:
    """The Euclidean lengths of the rows of X (m, n), divided by m."""

    def inputs(case, generator):
        x = torch.randn(*case.sizes, generator=generator, dtype=torch.float64)
        return {"x": x / float(x.abs().max())}

    def oracle(x):
        return torch.linalg.vector_norm(x, dim=1) / len(x)

    def error_scale(x):
        return torch.linalg.vector_norm(x, dim=1) / len(x)


@kernel(operation="lengths_of_rows", baseline=True)
def norm(x):
    return torch.linalg.vector_norm(x, dim=1) / len(x)


@kernel(operation="lengths_of_rows")
def root_of_squares(x):
    return x.square().sum(1).sqrt_().div_(len(x))
