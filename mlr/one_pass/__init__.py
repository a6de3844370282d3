"""Kernels that read each row once: LLVM IR is written (`codegen`), compiled, called and counted."""
