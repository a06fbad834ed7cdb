"""What kernels are handed: the slots of a frame, and the entries of a table. Both engines' kernels read these names."""

OPERANDS = ("x", "out", "weight", "bias")  # what loops step through, element by element
# Of the groups, in float64; or given ones, of any float type. `rest` is what rounding took from the mean.
STATES = ("count", "mean", "m2", "rest")
PARTIAL_STATES = tuple(f"part_{name}" for name in STATES)  # of the parts into which groups are cut
SLOTS = (*OPERANDS, *STATES, *PARTIAL_STATES, "board", "running_mean", "running_var", "num_batches_tracked")
NUMBERS = ("eps", "center", "momentum", "ddof", "eps_on_std")  # a float, an int, a float, two ints

# A loop in a table: its size, a step in bytes for each operand, and one for the group's index (0: reduced).
SIZE, X, OUT, WEIGHT, BIAS, GROUP = range(2 + len(OPERANDS))
LOOP = 2 + len(OPERANDS)

# A table: how many outer and inner loops there are, and the product of the inner sizes; where each operand and the
# group's index begin; the loops `rows`, `high` and `low`; settings of the engine's own; the outer loops, and the inner.
OUTER, INNER, REPEATS, BASE = range(4)
ROWS = BASE + LOOP - 1
HIGH, LOW, SETTINGS = ROWS + LOOP, ROWS + 2 * LOOP, ROWS + 3 * LOOP
NUM_SETTINGS = 8
LOOPS = SETTINGS + NUM_SETTINGS
