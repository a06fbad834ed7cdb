"""Moments in files: written at once or not at all; what is damaged, cut off or foreign is refused."""

import io
import os
import pickle
import stat
import zipfile

import numpy as np
import pytest

import numbanorm as nbn


@pytest.fixture
def m():
    return nbn.Moments._of([2.0, 3.0], [1e8, -1.5], [0.5, 2.0], [1e-9, 0.0])


@pytest.fixture
def file(m, tmp_path):
    m.save(tmp_path / "moments.npz")
    return tmp_path / "moments.npz"


def test_a_file_is_named_exactly_and_nothing_lies_beside_it(m, tmp_path):
    for name in ("moments", "moments.npz", "m.dat", "x" * 250):
        m.save(tmp_path / name)
        assert nbn.Moments.load(str(tmp_path / name)) == m
    assert sorted(os.listdir(tmp_path)) == sorted(["moments", "moments.npz", "m.dat", "x" * 250])


def test_saving_again_replaces_the_file(file, m):
    (m + m).save(file)
    assert nbn.Moments.load(file) == m + m
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize("fails", ["replace", "fsync", "chmod"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(file, m, monkeypatch, fails):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, fails, fail)
    with pytest.raises(OSError, match="No space left"):
        (m + m).save(file)
    monkeypatch.undo()
    assert nbn.Moments.load(file) == m
    assert os.listdir(file.parent) == [file.name]


def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(file, m, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        (m + m).save(file)
    assert nbn.Moments.load(file) == m
    assert os.listdir(file.parent) == [file.name]


def test_saving_to_a_folder_is_refused_and_leaves_nothing(m, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        m.save(tmp_path / "folder")
    with pytest.raises(FileNotFoundError):
        m.save(tmp_path / "nowhere" / "moments.npz")
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.skipif(os.name == "nt", reason="permissions and links of POSIX")
def test_permissions_and_links_stay(file, m, tmp_path):
    os.chmod(file, 0o640)
    (tmp_path / "link").symlink_to(file)
    (m + m).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert nbn.Moments.load(file) == m + m
    before = os.umask(0o027)
    try:
        m.save(tmp_path / "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3)])
def test_any_group_shape_comes_back(shape, tmp_path):
    m = nbn.Moments.empty(shape)
    m.save(tmp_path / "m")
    assert nbn.Moments.load(tmp_path / "m") == m
    assert nbn.Moments.load(tmp_path / "m").shape == shape


# what is refused ------------------------------------------------------------------------------------------------------


def test_a_file_cut_off_anywhere_is_refused(file):
    content = file.read_bytes()
    for length in range(0, len(content), 3):
        file.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"moments\.npz"):
            nbn.Moments.load(file)


def test_a_changed_byte_is_refused_or_changes_nothing(file, m, rng):
    """Some bytes of a zip, such as dates, mean nothing to us."""
    content, refused = file.read_bytes(), 0
    for place, flip in enumerate(rng.integers(1, 256, len(content)).tolist()):
        damaged = bytearray(content)
        damaged[place] ^= flip
        file.write_bytes(damaged)
        try:
            assert nbn.Moments.load(file) == m
        except ValueError as error:
            assert "moments.npz" in str(error)
            refused += 1
    assert refused > len(content) / 2


def test_changed_numbers_in_a_whole_file_are_refused(file):
    with np.load(file) as npz:
        arrays = dict(npz)
    arrays["mean"] = arrays["mean"] + 1
    np.savez(file, **arrays)
    with pytest.raises(ValueError, match=r"moments\.npz is damaged: its checksum"):
        nbn.Moments.load(file)


def test_a_checksum_knows_arrays_by_name_and_shape(file):
    with np.load(file) as npz:
        arrays = dict(npz)
    for changed in ({"mean": arrays["rest"], "rest": arrays["mean"]}, {k: v[None] for k, v in arrays.items()}):
        np.savez(file, **{**arrays, **changed, "checksum": arrays["checksum"]})
        with pytest.raises(ValueError, match="checksum"):
            nbn.Moments.load(file)


def foreign():
    def saved(save, *args, **kwargs):
        made = io.BytesIO()
        save(made, *args, **kwargs)
        return made.getvalue()

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("count.npy", "no array")
    objects = np.array([None, 1], object)
    states = {"count": np.ones(2), "mean": np.ones(2), "m2": np.ones(2)}
    return {
        "empty": b"",
        "text": b"count mean m2",
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "one array": saved(np.save, np.ones(3)),
        "a pickle": pickle.dumps({"count": 1, "mean": 2, "m2": 3}),
        "an archive": archive.getvalue(),
        "other arrays": saved(np.savez, weights=np.ones(3)),
        "no m2": saved(np.savez, count=np.ones(2), mean=np.ones(2)),
        "objects": saved(np.savez, **{**states, "mean": objects}),
        "text in arrays": saved(np.savez, **{**states, "mean": np.array(["a", "b"])}),
        "complex": saved(np.savez, **{**states, "mean": np.array([1j, 2j])}),
        "another shape": saved(np.savez, **{**states, "mean": np.ones(3)}),
    }


@pytest.mark.parametrize("name", foreign())
def test_a_foreign_file_is_refused(name, tmp_path):
    (tmp_path / "foreign").write_bytes(foreign()[name])
    with pytest.raises(ValueError, match=r"(?s)foreign.*Moments\.save"):
        nbn.Moments.load(tmp_path / "foreign")


def test_nothing_in_a_file_is_run(tmp_path):
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    np.savez(tmp_path / "m.npz", count=np.array([Runs()], object), mean=np.ones(1), m2=np.ones(1))
    (tmp_path / "m.pickle").write_bytes(pickle.dumps(Runs()))
    for name in ("m.npz", "m.pickle"):
        with pytest.raises(ValueError):
            nbn.Moments.load(tmp_path / name)
    assert not (tmp_path / "run").exists()


def test_no_file_is_told_from_a_wrong_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        nbn.Moments.load(tmp_path / "nothing")
