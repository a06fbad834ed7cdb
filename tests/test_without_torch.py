"""Where torch is not installed."""

from fresh import HOME, process

WITHOUT = "import sys; sys.modules['torch'] = None; import pytest; sys.exit(pytest.main({}))"


def test_docstrings_and_tests_of_torchs_part_are_left_out_and_others_collected():
    arguments = ["-n", "0", "-q", "--collect-only", "-p", "no:cacheprovider", "--rootdir", HOME]
    of = [f"{HOME}/{part}" for part in ("numbanorm/torch", "numbanorm/statistics.py", "tests/torch/test_modules.py")]
    said = process("-c", WITHOUT.format([*arguments, "--doctest-modules", *of])).stdout
    assert "numbanorm.statistics.moments" in said, said[-2000:]
    assert "error" not in said.lower() and "numbanorm.torch" not in said and "SKIPPED" in said, said[-2000:]
