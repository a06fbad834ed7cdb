"""Kernels for processors, and the launcher that runs them."""
