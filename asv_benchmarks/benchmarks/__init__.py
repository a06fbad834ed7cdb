"""The history of numbanorm's speed, accuracy, start-up and memory, for airspeed velocity. See ../README.md.

The benchmarks are today's, while numbanorm may be of any older commit: what a commit lacks is n/a there.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # harness, which all scripts of that folder share
