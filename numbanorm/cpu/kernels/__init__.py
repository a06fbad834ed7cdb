"""Kernels for the CPU: addresses and integers in, numbers out. They know no layouts."""
