"""The scalar mathematics, written once for the CPU and for GPUs."""
