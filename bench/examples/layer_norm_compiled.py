"""Another kernel of the gradient of layer normalisation, which `layer_norm.py` declares: compiled.

One loop over the rows does all that the formulas there say while a row is in the first-level cache:
it reads X and δ from memory once and writes ∂L/∂X, and nothing else of that size. It is written in
LLVM's IR for one number after another. LLVM makes vectors of it, out of the package llvmlite: no
compiler is needed.

With d = x − μ the mean of x̂∘g is r·mean(d∘g), so that ∂L/∂x = r·(g − mean(g) − d·r²·mean(d∘g)).
"""

import ctypes
from functools import cache, partial

import torch
from llvmlite import binding as llvm
from llvmlite import ir

from mlr import kernel
from mlr.one_pass.compile import host

EPSILON = 1e-5  # as in `layer_norm.py`
INT, POINTER = ir.IntType(64), ir.PointerType()
IN_PARTS = ("reassoc", "nsz", "contract")  # how LLVM may sum, and so use vectors
TYPES = {
    torch.float32: (ir.FloatType(), ctypes.c_float),
    torch.float64: (ir.DoubleType(), ctypes.c_double),
}


def loop(build, count, starts, body):
    """Write a loop over i = 0 … count − 1 and return the sums that it ends with.

    From i and the sums so far, which begin as `starts`, the body returns the next ones.
    """
    before, inside, after = build.block, build.append_basic_block(), build.append_basic_block()
    build.branch(inside)
    build.position_at_end(inside)
    starts = [INT(0), *starts]
    held = [build.phi(start.type) for start in starts]
    ahead = [build.add(held[0], INT(1)), *body(*held)]
    for value, start, following in zip(held, starts, ahead, strict=True):
        value.add_incoming(start, before)
        value.add_incoming(following, build.block)
    build.cbranch(build.icmp_unsigned("<", ahead[0], count), inside, after)
    build.position_at_end(after)
    return ahead[1:]


def write(kind, name):
    """Write the loop over the rows for a type of number; return the module of LLVM."""
    module = ir.Module()
    arguments = (INT, INT, kind, *[POINTER] * 6)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    for argument in function.args[3:]:
        argument.add_attribute("noalias")
    m, n, epsilon, x, gamma, delta, by_x, by_gamma, by_beta = function.args
    build, zero = ir.IRBuilder(function.append_basic_block()), kind(0)
    add, sub, mul = (partial(one, flags=IN_PARTS) for one in (build.fadd, build.fsub, build.fmul))
    root, count = module.declare_intrinsic("llvm.sqrt", [kind]), build.uitofp(n, kind)

    def at(base, index):
        return build.gep(base, [index], source_etype=kind)

    def read(base, index):
        return build.load(at(base, index), typ=kind)

    def row(p):
        x_row, delta_row, by_x_row = (at(one, build.mul(p, n)) for one in (x, delta, by_x))
        (total,) = loop(build, n, [zero], lambda i, so_far: [add(so_far, read(x_row, i))])
        mean = build.fdiv(total, count)

        def d_and_g(i):
            return sub(read(x_row, i), mean), mul(read(delta_row, i), read(gamma, i))

        def sums(i, squares, of_g, products):
            d, g = d_and_g(i)
            return add(squares, mul(d, d)), add(of_g, g), add(products, mul(d, g))

        means = [build.fdiv(one, count) for one in loop(build, n, [zero] * 3, sums)]
        r = build.fdiv(kind(1), build.call(root, [build.fadd(means[0], epsilon)]))
        factor = mul(mul(r, r), means[2])

        def results(i):
            (d, g), delta_i = d_and_g(i), read(delta_row, i)
            build.store(mul(r, sub(sub(g, means[1]), mul(d, factor))), at(by_x_row, i))
            build.store(add(read(by_gamma, i), mul(delta_i, mul(d, r))), at(by_gamma, i))
            build.store(add(read(by_beta, i), delta_i), at(by_beta, i))
            return ()

        return loop(build, n, [], results)

    loop(build, m, [], row)
    build.ret_void()
    return module


@cache
def compiled(dtype):
    """Compile the loop for a dtype, once a process, and return it as a function of C."""
    (kind, of_c), name = TYPES[dtype], f"layer_norm_gradient_{dtype.itemsize}"
    module, (machine, engine) = llvm.parse_assembly(str(write(kind, name))), host()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    engine.add_module(module)
    engine.finalize_object()
    arguments = (*[ctypes.c_int64] * 2, of_c, *[ctypes.c_void_p] * 6)
    return ctypes.CFUNCTYPE(None, *arguments)(engine.get_function_address(name))


@kernel(
    operation="layer_norm_gradient",
    flops=lambda m, n, s: 16 * m * n,
    workspace=lambda m, n, s: 0,
    devices=("cpu",),
)
def compiled_loop(x, gamma, delta):
    """Do everything in one compiled loop over the rows, by one thread. Materialises nothing."""
    (m, n), by_x = x.shape, torch.empty_like(x)
    by_gamma, by_beta = torch.zeros_like(gamma), torch.zeros_like(gamma)
    tensors = (x, gamma, delta, by_x, by_gamma, by_beta)
    compiled(x.dtype)(m, n, EPSILON, *(one.data_ptr() for one in tensors))
    return by_x, by_gamma, by_beta
