"""The same operations by other compilers and libraries, each as its own manual writes it.

They are checked and timed as every kernel is. What is not installed is
`unsupported`, with the line that installs it. NumPy, SciPy and JAX work on the problem's own
memory where they can; what they allocate besides is outside torch, and the suite says so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .arrays import arrays
from .case import Case, Gradient, Problem
from .gradients import Delta, X
from .registry import kernel, needs, needs_triton
from .steps import sweep_flops


def _needs_compiler(case: Case) -> str | None:
    """Say so where torch.compile has nothing to compile with."""
    if case.device.startswith("cuda"):
        return needs_triton(case)
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"torch.compile needs a C++ compiler, and {compiler} is not there: install it"
    return None


def _needs_jax(case: Case) -> str | None:
    """Say so where JAX is missing, or has no support for a GPU that it is to run on."""
    missing = needs("jax")(case)
    if missing or case.device.startswith("cpu"):
        return missing
    plugins = "jax_cuda13_plugin", "jax_cuda12_plugin"
    return needs(*plugins, install="'jax[cuda13]'")(case)


def own_code(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with a copy of its code.

    torch keeps what it compiled with the code, and gives up on a code of more than eight shapes.
    """
    assert isinstance(function, FunctionType)
    return FunctionType(
        function.__code__.replace(), function.__globals__, function.__name__,
        function.__defaults__, function.__closure__,
    )  # fmt: skip


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    done: Callable[..., Any] = torch.compile(own_code(function), fullgraph=True, dynamic=False)
    return done


@cache
def _contraction(delta: torch.Size, x: torch.Size) -> Callable[..., Tensor]:
    """Return the contraction of δ, X and I in the order that opt_einsum finds the cheapest."""
    import opt_einsum

    found: Callable[..., Tensor] = opt_einsum.contract_expression(
        "pq,pi,qj->ij", delta, x, (delta[1], delta[1]), optimize="optimal"
    )
    return found


@kernel(
    operation="gradient",
    flops=lambda m, n, o, s: 2 * m * n * o + 2 * min(m, n) * o * o + m * o,
    workspace=lambda m, n, o, s: (o * o + min(m, n) * o - o) * s,
    unsupported_reason=needs("opt_einsum"),
    peer=True,
)
def opt_einsum_factored(x: X, delta: Delta) -> Gradient:
    """Contract the factors of the Jacobian in the order that opt_einsum finds the cheapest.

    Σ_pq δ_pq X_pi I_qj without forming I ⊗ X: δ and X first, or δ and I where there are fewer rows
    than features. Its manual recommends an expression made once where the same contraction is
    repeated; so it is here, once for each size. Source: opt_einsum.contract_expression.
    """
    eye = torch.eye(delta.shape[1], dtype=x.dtype, device=x.device)
    return Gradient(_contraction(delta.shape, x.shape)(delta, x, eye), delta.sum(0))


@kernel(
    operation="step",
    flops=sweep_flops,
    workspace=lambda m, n, o, s: (2 * m * o + n * o + o) * s,
    unsupported_reason=_needs_compiler,
    peer=True,
)
def torch_compile(problem: Problem) -> Callable[[], None]:
    """Step by tensor expressions that `torch.compile` fuses.

    The two products stay those of the library; what lies between them becomes one loop.
    Materialises the prediction and the residual. As its manual recommends for fixed shapes, the
    whole function is one graph and no size is dynamic; the mode is the default one.
    Source: torch.compile, TorchInductor.
    """
    rate = 2 * problem.lr / problem.y.numel()

    def update(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> None:
        residual = x @ weight + bias - y
        weight.sub_(x.T @ residual, alpha=rate)
        bias.sub_(residual.sum(0), alpha=rate)

    step = _compiled(update)
    given = problem.x, problem.y, problem.weight, problem.bias

    def call() -> None:
        step(*given)

    return call


@kernel(
    operation="step",
    flops=sweep_flops,
    workspace=lambda m, n, o, s: (2 * m * o + n * o + o) * s,
    unsupported_reason=_needs_compiler,
    owns_parameters=True,
    peer=True,
)
def torch_compile_nn(problem: Problem) -> Callable[[], None]:
    """Step as `torch_nn` does, its forward and backward pass compiled by `torch.compile`.

    Materialises the prediction and δ; the optimiser's step stays torch's own. Model and loss
    are compiled as its manual's training examples do, with the options of `torch_compile`.
    Source: torch.compile, AOTAutograd and TorchInductor.
    """
    x, y = problem.x, problem.y
    layer, loss = problem.linear(), nn.MSELoss()
    optimiser = torch.optim.SGD(layer.parameters(), lr=problem.lr)
    problem.weight, problem.bias = layer.weight.detach().T, layer.bias.detach()

    def of(x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = loss(layer(x), y)
        return found

    compiled = _compiled(of)

    def step() -> None:
        optimiser.zero_grad()
        compiled(x, y).backward()
        optimiser.step()

    return step


@kernel(
    operation="step",
    flops=sweep_flops,
    workspace=lambda m, n, o, s: (m * o + n * o + o) * s,
    devices=("cpu",),
    peer=True,
)
def numpy_step(problem: Problem) -> Callable[[], None]:
    """Step with NumPy, in place: products into buffers that are made once.

    Materialises the residual and the gradient. Its manual gives `out` as the way to leave out the
    array that each function would make; every function here has it. Source: numpy.matmul.
    """
    x, y, weight, bias = arrays(problem.x, problem.y, problem.weight, problem.bias)
    rate = x.dtype.type(2 * problem.lr / y.size)
    given = problem.y, problem.weight, problem.bias
    residual, by_weight, by_bias = arrays(*map(torch.empty_like, given))

    def step() -> None:
        np.matmul(x, weight, out=residual)
        np.add(residual, bias, out=residual)
        np.subtract(residual, y, out=residual)
        np.matmul(x.T, residual, out=by_weight)
        np.sum(residual, axis=0, out=by_bias)
        for parameter, gradient in ((weight, by_weight), (bias, by_bias)):
            np.multiply(gradient, rate, out=gradient)
            np.subtract(parameter, gradient, out=parameter)

    return step


@kernel(
    operation="step",
    flops=sweep_flops,
    workspace=lambda m, n, o, s: (m * o + n * o + o) * s,
    devices=("cpu",),
    unsupported_reason=needs("scipy"),
    peer=True,
)
def scipy_blas(problem: Problem) -> Callable[[], None]:
    """Step with two calls of BLAS's `gemm` by SciPy, in place.

    BLAS is column-major: what lies in memory as X is to it Xᵀ, and so Rᵀ = WᵀXᵀ + (b − Y)ᵀ is
    added onto what is there. Its manual asks for arrays in Fortran's order and of the routine's own
    type, or they are copied; the transposed views are. Materialises the residual and the gradient.
    Source: scipy.linalg.blas.
    """
    from scipy.linalg import blas

    x, y, weight, bias = arrays(problem.x, problem.y, problem.weight, problem.bias)
    rate = x.dtype.type(2 * problem.lr / y.size)
    residual, by_weight = arrays(*map(torch.empty_like, (problem.y, problem.weight)))
    gemm = {"float32": blas.sgemm, "float64": blas.dgemm}[problem.case.dtype]

    def step() -> None:
        residual[:] = bias
        np.subtract(residual, y, out=residual)
        gemm(1.0, weight.T, x.T, 1.0, residual.T, overwrite_c=True)
        gemm(1.0, residual.T, x.T, 0.0, by_weight.T, trans_b=True, overwrite_c=True)
        np.multiply(by_weight, rate, out=by_weight)
        np.subtract(weight, by_weight, out=weight)
        np.subtract(bias, rate * residual.sum(0), out=bias)

    return step


def jax_array(value: Tensor) -> Any:
    """Return JAX's array on a tensor's own memory, where JAX takes it over."""
    import jax

    return jax.dlpack.from_dlpack(value.detach())


def jax_parameters(problem: Problem, start: Gradient) -> list[Any]:
    """Return the parameters of a problem as JAX's arrays, which its accessors from now on take.

    On the CPU calls run in the thread that makes them from here on.
    """
    import jax

    if problem.case.device == "cpu":
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    held: list[Any] = []

    def write(values: Gradient) -> None:
        with jax.enable_x64(True):
            held[:] = (jax.numpy.array(jax_array(value), copy=True) for value in values)

    def read() -> Gradient:
        return Gradient(*(torch.utils.dlpack.from_dlpack(value).clone() for value in held))

    write(start)
    problem.set_parameter_accessors(read, write)
    return held


def note_peak(call: Callable[[], Any], compiled: Any) -> None:
    """Let a call say what XLA's own account holds: its temporaries and results."""
    if (account := compiled.memory_analysis()) is not None:
        held_bytes = account.temp_size_in_bytes + account.output_size_in_bytes
        vars(call)["peak_bytes"] = held_bytes


@kernel(
    operation="step",
    flops=sweep_flops,
    workspace=lambda m, n, o, s: m * o * s,
    unsupported_reason=_needs_jax,
    owns_parameters=True,
    peer=True,
    allocates_outside_torch=True,
)
def jax_jit(problem: Problem) -> Callable[[], None]:
    """Step by `jax.jit`, compiled ahead for the shapes, the parameters donated.

    X and Y are the problem's own memory, taken over by DLPack; the parameters are JAX's, and every
    call waits for them, as JAX's manual recommends: the outermost function compiled ahead of time,
    what is updated donated, `block_until_ready` before the clock is read. On the CPU it runs in the
    thread that calls it, which the manual advises where every call is waited for. On a GPU its time
    so holds a wait of the host in every call, where torch's kernels are waited for once a batch of
    calls: XLA launches on streams of its own, and X may be overwritten by torch as soon as a call
    returns. All that it holds is outside torch: `peak_bytes` is XLA's own account, its temporaries
    and results.
    Source: JAX, XLA.
    """
    import jax

    rate = 2 * problem.lr / problem.y.numel()
    exact = jax.lax.Precision.HIGHEST

    def update(x: Any, y: Any, weight: Any, bias: Any) -> tuple[Any, Any]:
        residual = jax.numpy.dot(x, weight, precision=exact) + bias - y
        by_weight = jax.numpy.dot(x.T, residual, precision=exact)
        return weight - rate * by_weight, bias - rate * residual.sum(0)

    held = jax_parameters(problem, Gradient(problem.weight, problem.bias))
    with jax.enable_x64(True):
        x, y = jax_array(problem.x), jax_array(problem.y)
        compiled = jax.jit(update, donate_argnums=(2, 3)).lower(x, y, *held).compile()

    def step() -> None:
        held[:] = compiled(x, y, *held)
        held[0].block_until_ready()
        held[1].block_until_ready()

    note_peak(step, compiled)
    return step
