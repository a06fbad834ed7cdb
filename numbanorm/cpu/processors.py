"""How many processors this process may use: by its affinity, and by the CPU quota of its container."""

import math
import os
import sys
from collections.abc import Iterator
from functools import cache

# Where control groups are mounted, by controllers in /proc/self/cgroup; "" is version 2.
_MOUNTS = {"": ("", "unified"), "cpu": ("cpu", "cpu,cpuacct", "cpuacct,cpu")}


@cache
def available(root: str = "/") -> int:
    """Processors of the affinity, or fewer if a quota gives less time; asked once. `root` is the file system's."""
    limit = quota(root)
    return min(_allowed(), math.ceil(limit)) if limit < math.inf else _allowed()


def _allowed() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13: heeds PYTHON_CPU_COUNT too
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def of_numba() -> int:
    """How many threads Numba may have, as it decides when it is imported."""
    known = getattr(sys.modules.get("numba.core.config"), "NUMBA_NUM_THREADS", None)
    if known is not None:
        return int(known)
    said = os.environ.get("NUMBA_NUM_THREADS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota(root: str = "/") -> float:
    """Processors' worth of time that the control groups of this process give it; inf without a limit."""
    return min((limit for group in _groups(root) for limit in _limits(group)), default=math.inf)


def _groups(root: str) -> Iterator[str]:
    """Folders of the control groups of this process, with all that they lie in.

    In a container, the path may be that outside of it, of which no folder is seen. Then the mount itself is the
    container's group.
    """
    for line in _read(root, "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "?", "?"][:3]
        version = "cpu" if "cpu" in controllers.split(",") else controllers
        names = [name for name in path.split("/") if name not in ("", ".", "..")]
        for mount in _MOUNTS.get(version, ()):
            for depth in range(len(names) + 1):
                yield os.path.join(root, "sys/fs/cgroup", mount, *names[:depth])


def _limits(group: str) -> Iterator[float]:
    """The group's limits, by version 2 (`cpu.max`: quota or "max", and period) and version 1 (-1: no limit)."""
    pairs = (
        _read(group, "cpu.max").split(),
        [*_read(group, "cpu.cfs_quota_us").split(), *_read(group, "cpu.cfs_period_us").split()],
    )
    for pair in pairs:
        if len(pair) == 2 and all(number.isdecimal() and int(number) > 0 for number in pair):
            yield int(pair[0]) / int(pair[1])


def _read(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name), encoding="utf-8", errors="surrogateescape") as file:  # no pathlib: 10 ms
            return file.read()
    except (OSError, ValueError):
        return ""
