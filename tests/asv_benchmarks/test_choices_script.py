"""asv_benchmarks/choices.py: every case has its line. No times are compared."""

import choices


def test_every_case_has_its_line(capsys, threads):
    assert choices.main(["--elements", "2000", "--threads", "1", "--seconds", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(choices.AXES) + len(choices.LABELS) + 2 * len(choices.SEGMENTS)
    for line in lines:
        assert all(f"{name} " in line for name in ("where", "skipna", "weights", "all three"))
