"""The gate: two versions of numbanorm in one process, what is slower, and a test of the gate itself."""
