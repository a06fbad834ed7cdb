"""The named norms, by family."""
