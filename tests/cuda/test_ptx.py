"""asv_benchmarks/ptx.py: that it finds what it looks for. CI runs all of it; here it compiles a few kernels."""

import json
from pathlib import Path

import pytest
from processes import PATIENCE, run_python

pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")

FOLDER = Path(__file__).parents[2] / "asv_benchmarks"

# The compiler is there without Numba's simulator only, so this runs in a process of its own.
CODE = (
    f"import sys; sys.path.insert(0, {str(FOLDER)!r})\n"
    + """
import json
from dataclasses import replace

import ptx

kernels = ptx.of_table()
said = {"all": list(kernels)}
for name in ("f4 rows 32x32 normalize", "bf kept columns 32 normalize", "update_running"):
    row = ptx.examine((name, kernels[name], (9, 0)))
    said[name] = row.faults, row.registers, row.loads, row.stores
row = ptx.examine(("f4 rows 32x32 normalize", kernels["f4 rows 32x32 normalize"]._replace(registers=32), (9, 0)))
said["held to 32 registers"] = row.faults
changes = {
    "registers": {"registers": row.bound + 1}, "local": {"local": 8}, "loads": {"loads": row.expected_loads - 1},
    "stores": {"stores": row.expected_stores - 1}, "kept": {"expected_kept": row.kept + 1},
    "declared": {"declared": row.allowed + 1},
}
fine = replace(row, spilled=0, local=0)
said["fine"] = fine.faults
said["changes"] = {name: replace(fine, **change).faults for name, change in changes.items()}
print(json.dumps(said))
"""
)


def test_faults_are_found():
    said = json.loads(run_python(CODE, PATIENCE, NUMBA_ENABLE_CUDASIM="0").splitlines()[-1])
    for name in ("f4 rows 32x32 normalize", "bf kept columns 32 normalize"):
        faults, registers, loads, stores = said[name]
        assert faults == []
        assert 32 < registers < 255
        assert loads >= stores > 0
    assert said["update_running"][0] == []
    (spilled,) = said["held to 32 registers"]
    assert "bytes spilled" in spilled
    assert said["fine"] == []
    assert all(len(faults) == 1 for faults in said["changes"].values())
    families = {name.partition(" ")[2].split()[0] for name in said["all"] if " " in name}
    assert {"rows", "columns", "group", "batch", "long", "kept"} <= families
