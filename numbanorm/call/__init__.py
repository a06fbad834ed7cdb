"""One call from beginning to end: arguments, the engine of x, the order of steps, and calls that were made before."""
