"""What is built: wheels get kernels, and Numba to compile them; editable installs get neither."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="needs what builds packages")
SCRIPT = Path(__file__).parents[1] / "hatch_build.py"
linux = pytest.mark.skipif(sys.platform != "linux", reason="kernels are emitted on Linux")


@pytest.fixture
def backend(monkeypatch):
    monkeypatch.chdir(SCRIPT.parent)
    monkeypatch.delenv("NUMBANORM_SHIP", raising=False)
    spec = importlib.util.spec_from_file_location("hatch_build", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "can_emit", lambda: True)
    return module


class App:
    display_info = print


@pytest.fixture
def hook(backend, monkeypatch):
    """The hook of a wheel's build, which emits one file; and what it was asked for."""
    asked = []

    def emit(folder, words, say):
        asked.append(words)
        (folder / "emitted").touch()

    monkeypatch.setattr(backend, "emit", emit)
    made = backend.ShippedKernels.__new__(backend.ShippedKernels)
    monkeypatch.setattr(backend.ShippedKernels, "app", App)
    return made, asked


def test_numba_is_required_for_wheels_alone(backend, monkeypatch):
    assert any(one.startswith("numba") for one in backend.get_requires_for_build_wheel())
    assert not any(one.startswith("numba") for one in backend.get_requires_for_build_editable())
    assert not any(one.startswith("numba") for one in backend.get_requires_for_build_sdist())
    monkeypatch.setenv("NUMBANORM_SHIP", "none")
    assert not any(one.startswith("numba") for one in backend.get_requires_for_build_wheel())


def test_a_wheel_gets_all_dtypes(hook):
    made, asked = hook
    data = {"force_include": {}}
    made.initialize("standard", data)
    assert asked == [["float32", "float64", "float16", "bfloat16"]]
    ((folder, place),) = data["force_include"].items()
    assert place == "numbanorm/cpu/shipped"
    assert Path(folder, "emitted").exists()
    made.finalize("standard", data, "")
    assert not Path(folder).exists()


@pytest.mark.parametrize(("said", "words"), [("none", None), ("float16:moments,merge", ["float16:moments,merge"])])
def test_or_what_is_said(said, words, hook, monkeypatch):
    made, asked = hook
    monkeypatch.setenv("NUMBANORM_SHIP", said)
    data = {"force_include": {}}
    made.initialize("standard", data)
    made.finalize("standard", data, "")
    assert asked == ([words] if words else [])
    assert len(data["force_include"]) == len(asked)


def test_editable_installs_get_none(hook):
    made, asked = hook
    data = {"force_include": {}}
    made.initialize("editable", data)
    made.finalize("editable", data, "")
    assert (asked, data) == ([], {"force_include": {}})


def test_elsewhere_there_are_none(backend, hook, monkeypatch):
    monkeypatch.setattr(backend, "can_emit", lambda: False)
    made, asked = hook
    made.initialize("standard", {})
    assert asked == []
    assert not any(one.startswith("numba") for one in backend.get_requires_for_build_wheel())


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        (
            "float23",
            "kernels of 'float23' do not ship; NUMBANORM_SHIP takes float32, float64, float16, bfloat16, or none",
        ),
        ("float32:median", r"no operation \['median'\]; float32 has apply, merge, moments, normalize"),
    ],
)
def test_words_that_say_nothing(word, complaint, backend, tmp_path):
    with pytest.raises(ValueError, match=complaint):
        backend.emit(tmp_path, [word])


def test_words_choose_kernels(backend, tmp_path, monkeypatch):
    from numbanorm.cpu import emit

    seen = {}
    monkeypatch.setattr(emit, "write", lambda folder, lists: seen.update(lists))
    backend.emit(tmp_path, ["float32", "bfloat16:moments"], say=lambda text: None)
    assert [str(one) for one in seen["bfloat16"]] == [
        f"{f}.moments(x bf, mean f8, m2 f8, rest f8)" for f in ("rows", "columns")
    ]
    assert len(seen["float32"]) > 20
    assert len(seen["entry"]) == 1


def test_all_of_warmups_kernels_ship(backend, tmp_path, monkeypatch):
    from numbanorm.ahead import variants
    from numbanorm.cpu import emit

    seen = {}
    monkeypatch.setattr(emit, "write", lambda folder, lists: seen.update(lists))
    backend.emit(tmp_path, list(backend.KINDS), say=lambda text: None)
    dtypes = ["float32", "float64", "float16"]
    if importlib.util.find_spec("ml_dtypes"):
        dtypes.append("bfloat16")
    assert set(variants(dtypes)) <= {one for several in seen.values() for one in several}
