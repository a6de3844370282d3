"""Kernels that read each row once: written as LLVM IR (`codegen`), compiled, and called."""
