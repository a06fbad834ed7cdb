"""Stop a slowdown: compare two commits' numbanorm in one process, on the same arrays, in the order A B B A.

A case is suspected if the median of the ratios is above 1.07 and their 95% interval above 1, on one thread. Suspects
are measured again in two fresh processes, and are slower if they are so in both. All threads are reported, but do not
decide. '.' in the place of a commit means the files as they are. The exit status is 0 if no case is slower, 1 if one
is, 3 if nothing could be measured.
"""

import sys
import traceback

if __name__ == "__main__":  # processes that measure import this file again: they must not import numbanorm by its name
    try:
        from harness.gate.flow import main

        status = main(__doc__)
    except Exception:  # a package that is missing, for one; Python would exit with 1, which means slower
        traceback.print_exc()
        print("Nothing could be measured: the gate itself failed.", file=sys.stderr)
        status = 3
    sys.exit(status)
