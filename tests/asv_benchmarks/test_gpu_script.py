"""compare.py --device cuda: its report, its files, and what it says without a GPU."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

import numbanorm as nbn

pytest.importorskip("ml_dtypes")
pytest.importorskip("torch")
import compare
import torch
from gpu_stand_in import Processor
from harness import report
from harness.case import Case
from harness.contenders import ON_GPU, OWN, names
from harness.gpu import device, measure
from harness.gpu import report as gpu_report
from harness.gpu.measure import Gpu, GpuRow
from harness.terminal import WIDTH
from harness.timing import Ratio

LARGE = Case("large", "layer_norm", (64, 32), last=True)
GB = 1 << 30


# the report -----------------------------------------------------------------------------------------------------------


def made_up(case, device=2.0, queued=3.0, sets=1, **more):
    """Return a row as if numbanorm took 1 µs on the device and 4 µs in a queue, and torch so many times as long."""
    return GpuRow(
        case,
        sets=sets,
        units={OWN: 0.5, "torch": 0.6},
        seconds={OWN: 1e-6, "torch": device * 1e-6},
        ratios={"torch": Ratio(device, device, device)},
        queued={OWN: 4e-6, "torch": queued * 4e-6},
        queued_ratios={"torch": Ratio(queued, queued, queued)},
        into={OWN: 1e-6},
        copy={"a": 5e-7, "b": 1e-6},
        **more,
    )


def test_cells():
    row = made_up(LARGE)
    assert gpu_report.table_cells([row]) == [
        {
            "layer": "large",
            "shape": "64×32",
            OWN: "0.001",
            "× torch": "2.00",
            "queued": "0.004",
            "queued × torch": "3.00",
            "GB/s": "16",
            "copy GB/s": "33",
            "of copy": "0.50",
            "error": "0.50",
        }
    ]
    bare = gpu_report.table_cells([GpuRow(LARGE, left_out={OWN: "why"}), row])[0]
    assert set(list(bare.values())[2:]) == {"-"}


def test_all_contenders_fit_a_file():
    case = Case("sdxl-vae.decoder.gn", "group_norm", (4, 1024, 1024, 128), last=True, dtype="bfloat16")
    ratios = dict.fromkeys(names(ON_GPU)[1:], Ratio(12.3, 12.3, 12.3))
    row = replace(made_up(case, sets=2), ratios=ratios, queued_ratios=ratios)
    console = Console(width=WIDTH)
    with console.capture() as captured:
        report.show(gpu_report.table_cells([row]), console)
    assert "sdxl-vae.decoder.gn," in captured.get()
    assert "…" not in captured.get()


def test_note_and_summary():
    rows = [made_up(LARGE), made_up(LARGE, device=0.5, sets=2, read=2.5e-7)]
    rows[1].queued[OWN] = 1.1e-6  # so that only the first one is bound by launching
    lines = "\n".join(gpu_report.summary(rows))
    assert "Beside torch, on the device: 1.0 times as fast (geometric mean), faster on 1 of 2 rows; worst 0.50" in lines
    assert "Beside torch, queued, where launching takes longest: 3.0 times" in lines
    assert "faster on 1 of 1 rows" in lines
    assert "Beside a copy, from memory: 0.75" in lines
    assert "Beside a copy, in L2: 0.50" in lines
    assert "several copies" in gpu_report.note(rows) and "*:" in gpu_report.note(rows)
    assert "several copies" not in gpu_report.note(rows[:1]) and "*:" not in gpu_report.note(rows[:1])


# the script -----------------------------------------------------------------------------------------------------------


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["compare.py", "--device", "cuda", *map(str, arguments)])
    try:
        status = compare.main()
    except SystemExit as stopped:
        status = stopped.code
    return status, capsys.readouterr()


def no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


def built_without(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)


def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("lacking", "says"),
    [(no_torch, "torch is not installed"), (built_without, "built without CUDA"), (without_gpu, "finds no NVIDIA GPU")],
)
def test_without_a_gpu(lacking, says, monkeypatch, capsys):
    lacking(monkeypatch)
    status, said = run(monkeypatch, capsys)
    assert status == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert says in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--threads", "1"], "--threads is for the processor"),
        (
            ["--contenders", "NumPy"],
            "no contender is named NumPy; there are numbanorm, torch, torch.compile, CuPy, JAX",
        ),
        (["--device", "tpu"], "invalid choice: 'tpu'"),
    ],
)
def test_what_a_gpu_has_not(arguments, says, monkeypatch, capsys):
    status, said = run(monkeypatch, capsys, *arguments)
    assert status == 2
    assert says in said.err


def test_names_are_those_of_the_device():
    assert compare.contenders_of(["TORCH", "all"], names(ON_GPU)) == [OWN, "torch", "torch.compile", "CuPy", "JAX"]
    assert compare.contenders_of([], names(ON_GPU)) == [OWN]


@pytest.fixture
def script(monkeypatch):
    """Let compare.py find the GPU that is none."""
    properties = SimpleNamespace(
        name="Made-up GPU", total_memory=80 * GB, multi_processor_count=132, L2_cache_size=50 << 20
    )
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda where: properties)
    monkeypatch.setattr(device, "asked", lambda: ("580.1", 0))
    monkeypatch.setattr(measure, "this_gpu", lambda: Gpu("cpu", Processor(), 1 << 14))


def test_the_script(script, monkeypatch, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "performance.md"
    page.write_text("<!-- speed table -->\n<!-- end of speed table -->\n", "utf-8")
    chosen = ["--name", "mlp.small", "--seconds", "0.001", "--contenders", "torch", "--markdown", page]
    status, said = run(monkeypatch, capsys, *chosen)
    assert status == 2 and "<!-- GPU speed table" in said.err  # before anything is measured
    with page.open("a", encoding="utf-8") as file:
        file.write("<!-- GPU speed table: here -->\nold\n<!-- end of GPU speed table -->\n")
    files = ["--json", tmp_path / "rows.json", "--picture", tmp_path / "bars.png"]
    status, said = run(monkeypatch, capsys, *chosen, *files)
    assert status == 0
    assert said.out.startswith("Made-up GPU, 80 GB, 132 multiprocessors, 50 MB of L2, driver 580.1, CUDA 13.0, ")
    assert f"numbanorm {nbn.__version__}" in said.out and "2 rows in" in said.out
    text = page.read_text("utf-8")
    assert text.startswith(
        "<!-- speed table -->\n<!-- end of speed table -->\n<!-- GPU speed table: here -->\n\nMade-up"
    )
    assert "old" not in text and "queued × torch" in text
    found = json.loads((tmp_path / "rows.json").read_text("utf-8"))
    assert {row["label"] for row in found["rows"]} == {"mlp.small.bn, 32×64", "mlp.small.bn, evaluation, 32×64"}
    assert all(row["queued"][OWN] > 0 for row in found["rows"])
    assert (tmp_path / "bars.png").stat().st_size > 1000


def test_a_wrong_result_fails(script, monkeypatch, capsys):
    monkeypatch.setitem(ON_GPU["rms_norm"], OWN, lambda case, a, out: lambda: torch.zeros_like(a.x))
    status, said = run(monkeypatch, capsys, "--smoke", "--name", "t5-base", "--contenders", "torch")
    assert status == 1 and "numbanorm is wrong" in said.out


def test_nvidia_smi_may_be_silent(monkeypatch):
    answers = {"580.159.03, 7\n": ("580.159.03", 7), "": ("unknown", 0), "580.1, [N/A]\n": ("unknown", 0)}
    for said, understood in answers.items():
        monkeypatch.setattr(device.subprocess, "run", lambda *_, said=said, **__: SimpleNamespace(stdout=said))
        assert device.asked() == understood
        assert bool(device.warning()) == (understood[1] >= device.BUSY)

    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(device.subprocess, "run", missing)
    assert device.asked() == ("unknown", 0)
