"""Kernels for GPUs: addresses and integers in, numbers out. They know no layouts."""
