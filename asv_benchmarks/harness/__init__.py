"""What the benchmarks share: the table of cases, who runs them, how they are timed and reported."""
