"""The engine for arrays on NVIDIA GPUs."""
