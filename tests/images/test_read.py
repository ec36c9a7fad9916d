"""References are computed by hand or by numpy."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from cnctl.errors import CnctlError
from cnctl.images import (
    read_hint,
    read_image,
    read_picture,
    read_size,
)

RED, WHITE = (255, 0, 0), (255, 255, 255)


def saved(path: Path, image: Image.Image, **settings) -> Path:
    image.save(path, **settings)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_lossless_formats_come_back_exactly(tmp_path, picture, suffix):
    settings = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(picture), **settings)
    image = read_image(path)
    assert image.dtype == np.uint8
    assert np.array_equal(image, picture)


def test_bytes_are_read_like_a_file(tmp_path, picture):
    path = saved(tmp_path / "a.png", Image.fromarray(picture))
    assert np.array_equal(read_image(path.read_bytes()), read_image(path))


_UPRIGHT = {  # EXIF orientation -> how the stored pixels become upright, in numpy's terms
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", _UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_exif_orientation_is_applied_once(tmp_path, picture, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    settings = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(picture), exif=exif, **settings)
    assert np.array_equal(read_image(path), _UPRIGHT[orientation](picture))
    assert np.array_equal(read_hint(path, channels=3), _UPRIGHT[orientation](picture))
    assert read_size(path) == read_image(path).shape[:2]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    ramp = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    path = saved(tmp_path / "depth.png", Image.fromarray(ramp))
    image = read_image(path)
    assert np.array_equal(image[:, :, 0], np.round(ramp / 257).astype(np.uint8))
    assert len(np.unique(image)) == 256
    assert np.array_equal(read_hint(path, channels=1)[:, :, 0], ramp), "a hint loses nothing"


def test_thirty_two_bits_are_refused(tmp_path):
    path = saved(tmp_path / "depth.tiff", Image.fromarray(np.ones((8, 8), np.float32)))
    with pytest.raises(CnctlError, match=r"depth\.tiff has 32-bit samples"):
        read_image(path)


def test_alpha_is_laid_over_white(tmp_path):
    pixels = np.array([[(255, 0, 0, 0), (255, 0, 0, 255), (0, 0, 0, 128)]], np.uint8)
    image = read_image(saved(tmp_path / "a.png", Image.fromarray(pixels)))
    assert image.tolist() == [[[255, 255, 255], [255, 0, 0], [127, 127, 127]]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_with_transparency_or_without(tmp_path, mode):
    white = Image.new("RGBA", (9, 7), WHITE).convert(mode)
    assert (read_image(saved(tmp_path / "a.png", white)) == 255).all()


def test_palette_with_a_transparent_entry(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    path = saved(tmp_path / "a.png", image, transparency=0)
    assert read_image(path).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_cmyk_without_profile(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=100)
    assert np.abs(read_image(path).astype(int) - RED).max() <= 3


def test_an_icc_profile_is_applied(tmp_path):
    """A linear-light profile: 0.5 linear is 188 in sRGB (IEC 61966-2-1)."""
    profile = _linear_profile()
    path = saved(tmp_path / "a.png", Image.new("RGB", (4, 4), (128,) * 3), icc_profile=profile)
    assert np.abs(read_image(path).astype(int) - 188).max() <= 1
    assert (read_hint(path, channels=3) == 128).all(), "hints are numbers, not colours"


def test_srgb_and_broken_profiles_change_nothing(tmp_path, picture):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"nonsense", srgb[:200]):
        path = saved(tmp_path / "a.png", Image.fromarray(picture), icc_profile=profile)
        assert np.array_equal(read_image(path), picture)


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (6, 6), colour) for colour in (RED, (0, 255, 0))]
    for suffix in ("gif", "png", "webp"):
        path = tmp_path / f"a.{suffix}"
        settings = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(path, save_all=True, append_images=frames[1:], **settings)
        assert (read_image(path) == RED).all()


@pytest.mark.parametrize("size", [(1, 1), (8000, 20), (1, 4096)])
def test_extreme_shapes_are_read(tmp_path, size):
    assert read_image(saved(tmp_path / "a.png", Image.new("RGB", size))).shape[1::-1] == size


@pytest.mark.parametrize(
    ("format", "orientation", "suffix"),
    [
        ("JPEG", 1, ".jpg"),
        ("JPEG", 6, ""),
        ("JPEG", 2, ""),
        ("PNG", 0, ".png"),
        ("WEBP", 1, ".webp"),
        ("BMP", 0, ""),
    ],
)
def test_files_that_every_reader_shows_alike(format, orientation, suffix) -> None:
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(buffer, format, **({"exif": exif} if orientation else {}))
    picture = read_picture(buffer.getvalue())
    assert picture.suffix == suffix
    assert picture.is_lossy == (format in ("JPEG", "WEBP"))


@pytest.mark.parametrize(
    ("mode", "colour", "settings"),
    [
        ("RGBA", (255, 0, 0, 255), {}),
        ("RGBA", (255, 0, 0, 128), {}),
        ("LA", (9, 0), {}),
        ("P", 0, {}),
        ("P", 0, {"transparency": 0}),
        ("RGB", (1, 2, 3), {"transparency": (1, 2, 3)}),
        ("I;16", 40_000, {}),
    ],
)
def test_a_png_is_copied_where_a_plain_reader_sees_the_same(mode, colour, settings) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (4, 3), colour).save(buffer, "PNG", **settings)
    plain = np.asarray(Image.open(buffer).convert("RGB"))
    picture = read_picture(buffer.getvalue())
    assert picture.suffix == (".png" if np.array_equal(plain, picture.pixels) else "")


def test_an_animation_is_said_to_be_read_in_part(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    animation = read_picture(tmp_path / "a.gif")
    assert animation.describe_frames("a.gif") == "a.gif has 3 frames; the first is read"
    assert animation.pixels[0, 0].tolist() == [255, 0, 0]
    frames[0].save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").describe_frames("a.png") == ""
    frames[0].save(tmp_path / "a.mpo", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "a.mpo").describe_frames("a.mpo") == ""


def _linear_profile() -> bytes:
    """A minimal ICC v2 RGB display profile with sRGB's primaries and gamma 1."""

    def number(value):
        return struct.pack(">i", round(value * 65536))

    xyz = {
        b"rXYZ": (0.4360, 0.2225, 0.0139),
        b"gXYZ": (0.3851, 0.7169, 0.0971),
        b"bXYZ": (0.1431, 0.0606, 0.7141),
        b"wtpt": (0.9642, 1.0, 0.8249),
    }
    tags = {key: b"XYZ \0\0\0\0" + b"".join(map(number, v)) for key, v in xyz.items()}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), b"curv" + bytes(8))
    name = b"linear test\0"
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(79)
    offset, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for key, data in tags.items():
        data += bytes(-len(data) % 4)
        table += key + struct.pack(">II", offset + len(body), len(data))
        body += data
    header = bytearray(128)
    header[8:12], header[12:24], header[36:40] = b"\x02\x20\0\0", b"mntrRGB XYZ ", b"acsp"
    header[68:80] = b"".join(map(number, (0.9642, 1.0, 0.8249)))
    profile = bytes(header) + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(profile)) + profile[4:]


def test_damage_in_later_frames_is_of_no_concern_to_the_first(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green")]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    data = (tmp_path / "a.tiff").read_bytes()
    first = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, first)[0]
    second = struct.unpack_from("<I", data, first + 2 + 12 * entries)[0]
    cut = data[: second + 1]
    assert np.array_equal(read_image(cut), read_image(data))
