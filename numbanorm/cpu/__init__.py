"""The engine for arrays on the host."""
