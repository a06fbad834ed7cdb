"""Kernels: arrays and integers in, numbers out. They know no layouts."""
