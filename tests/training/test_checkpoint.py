"""A checkpoint is whole or refused."""

import errno
import hashlib
import io
import os
import pickle
import zipfile

import pytest
import torch

from sam_bench.errors import UsageError
from sam_bench.training import checkpoint


@pytest.fixture
def saved(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, {"run_id": "a", "step": step, "w": torch.full((50,), float(step))})
    return tmp_path


def test_the_newest_is_loaded(saved):
    state = checkpoint.load(saved, "a")
    assert state["step"] == 2
    assert torch.equal(state["w"], torch.full((50,), 2.0))


def test_none_where_there_is_none(tmp_path):
    assert checkpoint.load(tmp_path, "a") is None


def test_truncated_at_any_length_the_previous_one_is_used(saved):
    newest = saved / checkpoint.NAMES[0]
    whole = newest.read_bytes()
    for length in range(0, len(whole), 37):
        newest.write_bytes(whole[:length])
        with pytest.warns(UserWarning, match="falling back"):
            assert checkpoint.load(saved, "a")["step"] == 1


def test_one_flipped_bit_is_noticed(saved):
    newest = saved / checkpoint.NAMES[0]
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    with pytest.warns(UserWarning, match="damaged"):
        assert checkpoint.load(saved, "a")["step"] == 1


def test_a_foreign_file_is_refused(saved):
    torch.save({"step": 9}, saved / checkpoint.NAMES[0])
    with pytest.warns(UserWarning, match="not a sam_bench checkpoint"):
        assert checkpoint.load(saved, "a")["step"] == 1


def test_one_of_another_run_is_ignored(saved):
    with pytest.warns(UserWarning, match="belongs to run 'a'"):
        assert checkpoint.load(saved, "b") is None


def test_a_kill_between_the_two_renames_leaves_the_previous(saved):
    (saved / checkpoint.NAMES[0]).unlink()
    assert checkpoint.load(saved, "a")["step"] == 1


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (open, ("ran", "w"))


def test_code_in_a_checkpoint_is_not_run(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    newest, other = saved / checkpoint.NAMES[0], tmp_path / "other"
    other.mkdir()
    checkpoint.save(other, {"run_id": "a", "evil": Evil()})  # with a correct head and checksum
    newest.write_bytes((other / newest.name).read_bytes())
    with pytest.warns(UserWarning, match="more than tensors"):
        assert checkpoint.load(saved, "a")["step"] == 1
    assert not (tmp_path / "ran").exists()


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "b")
    return buffer.getvalue()


def in_our_form(payload):
    return checkpoint.MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


FOREIGN = {
    "empty": b"",
    "text": b"hello\n" * 1000,
    "zip": zipped(),
    "pickle": pickle.dumps({"run_id": "a", "step": 9}),
    "pickle with code": pickle.dumps(Evil()),
    "record": b'{"schema": 1}',
    "zip in our form": in_our_form(zipped()),
    "pickle with code in our form": in_our_form(pickle.dumps(Evil())),
    "text in our form": in_our_form(b"hello"),
    "nothing in our form": in_our_form(b""),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_file_of_something_else_is_refused(saved, what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (saved / checkpoint.NAMES[0]).write_bytes(FOREIGN[what])
    with pytest.warns(UserWarning, match="falling back"):
        assert checkpoint.load(saved, "a")["step"] == 1
    assert not (tmp_path / "ran").exists()


def test_a_folder_in_its_place_is_refused(saved):
    (saved / checkpoint.NAMES[0]).unlink()
    (saved / checkpoint.NAMES[0]).mkdir()
    with pytest.warns(UserWarning, match="falling back"):
        assert checkpoint.load(saved, "a")["step"] == 1


def test_a_list_is_no_state(tmp_path):
    checkpoint.save(tmp_path, ["a"])
    with pytest.warns(UserWarning, match="no state"):
        assert checkpoint.load(tmp_path, "a") is None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_leaves_both_checkpoints_and_no_draft(saved, monkeypatch, code):
    def refuse(_):
        raise OSError(code, os.strerror(code))

    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UsageError, match=r"resumes|SAM_BENCH_RESULTS"):
        checkpoint.save(saved, {"run_id": "a", "step": 3})
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
