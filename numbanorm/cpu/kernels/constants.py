"""Numbers that are baked into machine code. A change of any of them recompiles; thresholds that only choose among
kernels are in `cpu.tuning`.
"""

LANES = 16  # of a kernel's vectors: one 64-byte line of float32; two AVX-512 or four AVX registers of float64
SIDE = 64  # groups that are walked side by side, at most: 12 KB of each picture of 7 x 7
BLOCK = 2048  # elements whose sums share a pivot; 16 KB of float64, read twice from the first-level cache
CHAIN = 6  # values that a lane of float32 adds up before it goes on in float64: docs/numerics.md counts on it
EDGE_RUN = 64  # elements of a run whose last line is not written before the next run fills it: 49 take twice as long
NEAR_RUN = 128  # elements of a run from which sums by way of float32 are faster along it
DOWN_ROWS = 4  # rows of a group from which those sums are taken down them; twice as many ...
DOWN_RUN = 512  # ... where a run has so many elements
TRUST = 12.0  # float32 sums of a block serve where s * s is not above n * q / TRUST: see `accumulators.hold`
NEAR_ROWS = 64  # rows of a part from which columns are added up by way of float32
PIECE_ROWS = 16  # that a lane of float32 adds up before it goes on in float64, four at a time
SAMPLE = 32  # rows of a part that tell what is near to a column's mean: fewer would fail the check of noise
GROUP_ROWS = 8  # the same for a group of several columns side by side ...
GROUP_COLUMNS = 8  # ... where it is of so many
COLUMN_TRUST = 5.0  # the same as TRUST, for these sums
STRIP_BYTES = 16  # of each column in a strip of rows from beyond the cache: 4 of float32
STRIP_STEP = 2048  # bytes of a row up to which such strips are read: processors look ahead in several longer rows
WAY_BYTES = 4096  # what lies so far apart shares a place in the first-level cache, as 8 lines or 12 can
ROW_BLOCK = 64  # the same as BLOCK for columns: rows whose sums in float64 share a pivot
FEW_ROWS = 8  # columns of so few rows are summed up and settled in registers
STRIP_ROWS = 8  # rows of a block that are read side by side where the block is larger than the next number
NEAR_BYTES = 32768  # of the first-level cache
MAX_COLUMNS = 4096  # columns of a task: its statistics lie on the stack, 64 bytes each
PEEL = 2048  # elements of a run from which output reaches a line of the cache first: 7% slower for rows of 768
PEEL_COLUMNS = 512  # the same for columns: up to 20% faster
AHEAD_BYTES = 1536  # of a run that is asked for early without AVX-512; twice as many where output goes past the cache
TURN_RUN = 256  # elements of a run from which runs take turns past the cache with AVX2: 192 took a twentieth longer ...
TURN_BYTES = 16384  # ... and how much goes side by side then: runs of 384 and 512 took a tenth longer with 32 KB
ASK_BYTES = 262144  # of groups that are asked for while those in front are written: half of a second-level cache
SHARED = 1024  # elements of weight and bias that runs share at a time: 8 KB, which stay in the first-level cache
FOURS = 128  # columns up to which four rows that share coefficients are written side by side; of 320: 0.7 past L2
PERIOD = 112  # coefficients, at most, that are repeated for a loop over few channels: 256 cost images of 32 x 32 5%
JOINED = 256  # elements of a run to which runs behind one another are written as one
LINE, PHASES = 8, 3  # of a board (see `team`): numbers in a line of the cache, and phases
