import errno
import os
import resource

import pytest

from cnctl.errors import CnctlError, OutputError
from cnctl.images import (
    write_file,
    write_image,
)


def test_unknown_suffixes_are_refused(tmp_path, picture):
    with pytest.raises(CnctlError, match=r"not written as \.bmp"):
        write_image(tmp_path / "a.bmp", picture)


def test_an_existing_file_is_kept_unless_told(tmp_path):
    path = tmp_path / "a.txt"
    write_file(path, b"one")
    with pytest.raises(OutputError, match="exists already") as caught:
        write_file(path, b"two")
    assert "--overwrite" in caught.value.hint
    assert path.read_bytes() == b"one"
    write_file(path, b"two", overwrite=True)
    assert path.read_bytes() == b"two"


@pytest.mark.parametrize("place", ["file/below/a.png", "/proc/a.png", "x" * 256 + ".png"])
def test_unwritable_places(tmp_path, place):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        write_file(tmp_path / place, b"")


@pytest.mark.parametrize("place", ["/dev/null", "."])
def test_a_device_or_folder_is_never_replaced(place):
    with pytest.raises(OutputError, match="not a regular file"):
        write_file(place, b"", overwrite=True)


def test_a_full_disk_leaves_nothing_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OutputError, match="the disk is full"):
            write_file(path, bytes(200_000), overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["a.bin"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_turns_out_full_leaves_nothing(tmp_path, monkeypatch, number):
    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match="the disk is full"):
        write_file(tmp_path / "a.bin", b"data")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch, exception):
    def interrupt(descriptor):
        raise exception

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(exception):
        write_file(tmp_path / "a.bin", b"data")
    assert not os.listdir(tmp_path)


def test_a_file_has_the_rights_that_the_user_set(tmp_path):
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "a.bin", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640
