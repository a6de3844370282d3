# cheating.py: kernels of an operation of one's own that are wrong, or avoid its work
import torch
from torch.nn.functional import cross_entropy, one_hot

from mlr import kernel, operation


@operation(axes={"batch": (33, 512), "classes": (10,)})
class softmax_backward:
    def inputs(case, generator):
        m, c = case.sizes
        labels = torch.randint(c, (m,), generator=generator)
        z = torch.randn(m, c, generator=generator, dtype=torch.float64)
        return {"z": z, "y": one_hot(labels, c).double()}

    def oracle(z, y):
        z.requires_grad_()
        return torch.autograd.grad(cross_entropy(z, y), z)


@operation(axes={"numbers": (100,)}, state=("p",))
class descent:
    def inputs(case, generator):
        p, g = torch.randn(2, case.numbers, generator=generator, dtype=torch.float64)
        return {"p": p, "g": g}

    def oracle(p, g):
        return p - 0.1 * g


@kernel(operation="softmax_backward", baseline=True)
def by_hand(z, y):
    return z.softmax(1).sub_(y).div_(len(z))


@kernel(operation="softmax_backward")
def wrong_in_one_element(z, y):
    found = by_hand(z, y)
    found[0, 0] += 1e-4
    return found


@kernel(operation="softmax_backward")
def forgets_the_mean(z, y):
    return z.softmax(1).sub_(y)


@kernel(operation="softmax_backward")
def computes_in_float16(z, y):
    return by_hand(z.half(), y.half()).to(z.dtype)


kept = {}


@kernel(operation="softmax_backward")
def keeps_by_identity(z, y):
    if z.data_ptr() not in kept:
        kept[z.data_ptr()] = by_hand(z, y)
    return kept[z.data_ptr()].clone()


by_content = {}


@kernel(operation="softmax_backward")
def keeps_by_content(z, y):
    key = float(z[0, 0]), float(z[-1, -1])
    calls, found = by_content.get(key, (0, None))
    if calls < 50:
        found = by_hand(z, y)
    by_content[key] = calls + 1, found
    return found.clone()


@kernel(operation="softmax_backward")
def writes_to_its_input(z, y):
    return z.sub_(z.logsumexp(1, keepdim=True)).exp_().sub_(y).div_(len(z))


@kernel(operation="softmax_backward")
def returns_its_input(z, y):
    return y


@kernel(operation="softmax_backward", binds=True)
def computes_at_bind_time(problem):
    found = by_hand(problem.z, problem.y)
    return lambda: found


@kernel(operation="descent", baseline=True)
def in_place(p, g):
    p.sub_(g, alpha=0.1)


@kernel(operation="descent")
def has_another_rate(p, g):
    p.sub_(g, alpha=0.1001)


@kernel(operation="descent", binds=True)
def steps_once(problem):
    done = []

    def step():
        if not done:
            in_place(problem.p, problem.g)
            done.append(True)

    return step
