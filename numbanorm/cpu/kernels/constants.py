"""Numbers that are baked into machine code. A change of any of them recompiles; thresholds that only choose among
kernels are in `cpu.tuning`.
"""

LANES = 16  # of a kernel's vectors: one 64-byte line of float32; two AVX-512 or four AVX registers of float64
BLOCK = 2048  # elements whose sums share a pivot; 16 KB of float64, read twice from the first-level cache
ROW_BLOCK = 64  # the same for columns: rows whose sums share a pivot
STRIP_ROWS = 8  # rows of a block that are read side by side where the block is larger than the next number
NEAR_BYTES = 32768  # of the first-level cache
MAX_COLUMNS = 4096  # columns of a task: its statistics lie on the stack, 64 bytes each
PEEL = 2048  # elements of a run from which output reaches a line of the cache first: 7% slower for rows of 768
PEEL_COLUMNS = 512  # the same for columns: up to 20% faster
LINE, PHASES = 8, 3  # of a board (see `team`): numbers in a line of the cache, and phases
