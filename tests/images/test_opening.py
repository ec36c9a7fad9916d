"""Files that are not images, or are damaged or dangerous."""

import contextlib
import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnctl.errors import CnctlError
from cnctl.images import (
    read_image,
    read_size,
)


def saved(path: Path, image: Image.Image, **settings) -> Path:
    image.save(path, **settings)
    return path


def _pages(tmp_path):
    (tmp_path / "folder.png").mkdir()
    texts = {
        "text.png": b"just some text\n",
        "page.jpg": b"<!DOCTYPE html><title>404</title>",
        "lfs.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "empty.png": b"",
        "noise.png": bytes(range(256)) * 4,
        "vector.png": b"%PDF-1.7\n\0\0",
    }
    for name, data in texts.items():
        (tmp_path / name).write_bytes(data)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("missing.png", "missing.png: no such file"),
        ("folder.png", "is a folder"),
        ("text.png", "is a text file"),
        ("page.jpg", "is an HTML page"),
        ("lfs.png", "is a git-lfs pointer"),
        ("empty.png", r"is empty \(0 bytes\)"),
        ("noise.png", "is a file of unknown format"),
        ("vector.png", "is a PDF document"),
    ],
)
def test_what_is_no_image_is_named_for_what_it_is(tmp_path, name, expected):
    _pages(tmp_path)
    for read in (read_image, read_size):
        with pytest.raises(CnctlError, match=expected) as caught:
            read(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_named_pipe_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(CnctlError, match="named pipe"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tiff"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.98])
def test_truncated_images_are_refused(tmp_path, suffix, part):
    noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(noise))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CnctlError, match=r"a\.\w+ is (truncated|damaged)"):
        read_image(path)


def _png_of_zeros(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((min(width, 8192) // 8 + 1) * min(height, 8192)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(9400, 9400), (14000, 14000), (2**31 - 1, 1)])
def test_too_many_pixels_are_refused_before_decoding(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_of_zeros(*size))
    with pytest.raises(CnctlError, match=r"bomb\.png has .* limit is 67 million"):
        read_image(path)


def test_the_limit_can_be_chosen(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("L", (11, 10)))
    assert read_image(path, max_pixels=110).shape == (10, 11, 3)
    with pytest.raises(CnctlError, match="11 x 10 pixels"):
        read_image(path, max_pixels=109)


def test_a_text_bomb_is_refused(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("L", (8, 8)))
    body = b"k\0\0" + zlib.compress(bytes(100 * 2**20))
    chunk = (
        struct.pack(">I", len(body))
        + b"zTXt"
        + body
        + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    )
    data = path.read_bytes()
    path.write_bytes(data[:33] + chunk + data[33:])
    with pytest.raises(CnctlError, match="is damaged"):
        read_image(path)


def test_an_endless_input_is_refused(monkeypatch):
    monkeypatch.setattr("cnctl.images.opening.MAX_BYTES", 2**20)
    with pytest.raises(CnctlError, match="larger than 1 MiB"):
        read_image("/dev/zero")


def test_fuzzed_images_are_read_or_refused_by_name(picture, capfd):
    """Every exception is a CnctlError; no library writes to stderr."""
    rng = random.Random(1)
    for form, settings in _FORMS:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, form, **settings)
        for _ in range(60):
            data = _mutated(buffer.getvalue(), rng)
            with contextlib.suppress(CnctlError):
                image = read_image(data)
                assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
    assert capfd.readouterr() == ("", "")


_FORMS = [
    ("PNG", {}),
    ("JPEG", {}),
    ("WEBP", {}),
    ("BMP", {}),
    ("GIF", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "jpeg"}),
]


def _mutated(data: bytes, rng: random.Random) -> bytes:
    mutant = bytearray(data)
    for _ in range(rng.choice([1, 2, 8, 40])):
        mutant[rng.randrange(len(mutant))] = rng.randrange(256)
    return bytes(mutant[: rng.randrange(1, len(mutant))] if rng.random() < 0.2 else mutant)
