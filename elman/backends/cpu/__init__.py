"""Kernels for the CPU, generated through LLVM."""
