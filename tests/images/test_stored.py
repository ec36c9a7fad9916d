"""Hints and metadata, written and read again."""

import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from cnctl.errors import CnctlError
from cnctl.images import (
    eight_bits,
    encode_hint,
    hint_suffix,
    read_hint,
    read_image,
    read_metadata,
    write_hint,
    write_image,
)

DEEP = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32, 1)


def test_metadata_of_png_comes_back(tmp_path, picture):
    texts = {"parameters": "a cat, 猫\nSteps: 20", "cnctl": '{"seed": 1}'}
    write_image(tmp_path / "a.png", picture, metadata=texts)
    assert read_metadata(tmp_path / "a.png") == texts
    assert np.array_equal(read_image(tmp_path / "a.png"), picture)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_other_formats_hold_the_parameters_in_exif(tmp_path, picture, suffix):
    path = tmp_path / "new" / f"a.{suffix}"
    write_image(path, picture, metadata={"parameters": "a cat"})
    with Image.open(path) as image:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment == b"UNICODE\0" + "a cat".encode("utf-16-be")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "npz"])
def test_a_name_that_is_not_utf8_is_a_json_escape_in_metadata(tmp_path, picture, suffix):
    texts = {"cnctl": json.dumps({"name": "\udcff é"}, ensure_ascii=False)}
    if suffix == "npz":
        write_hint(tmp_path / "a.npz", np.concatenate([picture, picture], axis=2), metadata=texts)
    else:
        write_image(tmp_path / f"a.{suffix}", picture, metadata=texts)
    if suffix in ("png", "npz"):
        found = read_metadata(tmp_path / f"a.{suffix}")
        assert json.loads(found["cnctl"]) == {"name": "\udcff é"}


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_hints_are_lossless_for_any_number_of_channels(tmp_path, channels):
    hint = np.random.default_rng(0).integers(0, 256, (8, 16, channels), dtype=np.uint8)
    path = tmp_path / f"hint{hint_suffix(channels)}"
    write_hint(path, hint, metadata={"cnctl": "{}"})
    assert np.array_equal(read_hint(path, channels=channels), hint)
    assert read_metadata(path) == {"cnctl": "{}"}


def test_equal_hints_make_equal_files(tmp_path):
    for channels in (3, 6):
        for name in ("a", "b"):
            path = tmp_path / f"{name}{hint_suffix(channels)}"
            write_hint(path, np.zeros((8, 8, channels), np.uint8))
        assert path.read_bytes() == (tmp_path / f"a{path.suffix}").read_bytes()


def test_a_lossy_hint_is_refused(tmp_path):
    with pytest.raises(CnctlError, match=r"stored as \.png"):
        write_hint(tmp_path / "a.jpg", np.zeros((8, 8, 3), np.uint8))


def test_channels_of_a_hint_are_brought_together(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    write_hint(tmp_path / "grey.png", grey)
    write_hint(tmp_path / "colour.png", np.repeat(grey, 3, axis=2))
    write_hint(tmp_path / "real.png", np.dstack([grey, grey, grey * 2]))
    assert np.array_equal(read_hint(tmp_path / "grey.png", channels=3), np.repeat(grey, 3, axis=2))
    assert np.array_equal(read_hint(tmp_path / "colour.png", channels=1), grey)
    with pytest.raises(CnctlError, match="has 3 channels; a hint of this condition has 1"):
        read_hint(tmp_path / "real.png", channels=1)


def test_a_transparent_hint_is_nothing(tmp_path):
    pixels = np.array([[(255, 255, 255, 255), (255, 255, 255, 0)]], np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    assert read_hint(path, channels=3)[0].tolist() == [[255] * 3, [0] * 3]


@pytest.mark.parametrize("arrays", [{"other": np.zeros(3)}, {"hint": np.zeros((4, 4, 6))}])
def test_a_foreign_npz_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(CnctlError, match=r"a\.npz has no hint"):
        read_hint(tmp_path / "a.npz", channels=6)


def test_a_damaged_npz_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", hint=np.zeros((64, 64, 6), np.uint8))
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(CnctlError, match=r"a\.npz is damaged"):
        read_hint(tmp_path / "a.npz", channels=6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_hint_of_sixteen_bits_is_written_and_read_in_full(tmp_path, channels):
    hint = np.repeat(DEEP, channels, axis=2)
    write_hint(tmp_path / "deep.png", hint, metadata={"cnctl": "x"})
    stored = cv2.imread(str(tmp_path / "deep.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    assert (stored == DEEP[..., 0]).all()
    read = read_hint(tmp_path / "deep.png", channels=channels)
    assert read.dtype == np.uint16
    assert (read == hint).all()
    assert read_metadata(tmp_path / "deep.png")["cnctl"] == "x"


def test_eight_bits_of_sixteen_are_rounded():
    assert eight_bits(np.array([0, 128, 129, 257, 65535], np.uint16)).tolist() == [0, 0, 1, 1, 255]


@pytest.mark.parametrize(
    ("shape", "dtype", "mode"),
    [
        ((6, 5, 1), np.uint8, "L"),
        ((6, 5, 3), np.uint8, "RGB"),
        ((6, 5, 4), np.uint8, "RGBA"),
        ((6, 5, 1), np.uint16, "I;16"),
        ((6, 5, 3), np.uint16, "I;16"),
    ],
)
def test_compact_hints_are_read_as_they_were(shape, dtype, mode) -> None:
    hint = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)
    if dtype == np.uint16:
        hint[...] = hint[..., :1]
    data = encode_hint(hint, {})
    assert Image.open(io.BytesIO(data)).mode == mode
    assert np.array_equal(read_hint(data, channels=shape[2]), hint)


def test_equal_channels_are_stored_as_one() -> None:
    hint = np.repeat(np.random.default_rng(0).integers(0, 256, (6, 5, 1), np.uint8), 3, axis=2)
    data = encode_hint(hint, {})
    assert Image.open(io.BytesIO(data)).mode == "L"
    assert np.array_equal(read_hint(data, channels=3), hint)
    six = np.concatenate([hint, 255 - hint], axis=2)
    assert np.array_equal(read_hint(encode_hint(six, {}), channels=6), six)
