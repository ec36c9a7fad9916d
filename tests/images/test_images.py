"""Reading, fitting and writing image files; references are computed by hand or by numpy."""

import contextlib
import errno
import io
import json
import os
import random
import resource
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from cnctl.errors import CnctlError, OutputError
from cnctl.images import (
    ImageFile,
    copied_suffix,
    describe_frames,
    eight_bits,
    encode_hint,
    find_images,
    fit_hint,
    fit_image,
    hint_suffix,
    read_hint,
    read_image,
    read_metadata,
    read_size,
    shown,
    working_size,
    write_file,
    write_hint,
    write_image,
)

RED, WHITE = (255, 0, 0), (255, 255, 255)


@pytest.fixture
def picture() -> np.ndarray:
    """RGB uint8 (24, 40, 3): smooth, unlike in every corner and channel."""
    y, x = np.mgrid[0:24, 0:40]
    return np.stack([y * 10, x * 6, 255 - x * 3 - y * 3], axis=2).astype(np.uint8)


def saved(path: Path, image: Image.Image, **settings) -> Path:
    image.save(path, **settings)
    return path


# --- reading ------------------------------------------------------------------------------------


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


# --- refusing -----------------------------------------------------------------------------------


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


# --- finding ------------------------------------------------------------------------------------


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_folders_are_searched_to_the_bottom_in_natural_order(tmp_path):
    names = ["b/x.PNG", "frame2.png", "frame10.jpg", "b/c/y.webp"]
    _touch(*(tmp_path / name for name in [*names, "notes.txt", ".hidden.png", ".git/z.png"]))
    found = find_images([tmp_path])
    assert [image.relative.as_posix() for image in found] == [
        "b/c/y.webp", "b/x.PNG", "frame2.png", "frame10.jpg",
    ]  # fmt: skip
    assert found[0].path == tmp_path / "b/c/y.webp"


def test_link_loops_are_harmless(tmp_path):
    _touch(tmp_path / "a/x.png")
    (tmp_path / "a/up").symlink_to(tmp_path)
    assert len(find_images([tmp_path])) == 1


def test_files_globs_and_repetitions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _touch(Path("d/a.png"), Path("d/b.png"), Path("odd"), Path("[x].png"))
    assert [i.path.name for i in find_images(["d/*.png"])] == ["a.png", "b.png"]
    _touch(Path("t/u/c.png"))
    assert find_images(["t/**/*.png"]) == [ImageFile(Path("t/u/c.png"), Path("u/c.png"))]
    assert find_images(["d/b.png", "d", "odd"]) == [
        ImageFile(Path("d/b.png"), Path("b.png")),
        ImageFile(Path("d/a.png"), Path("a.png")),
        ImageFile(Path("odd"), Path("odd")),
    ]
    assert find_images(["[x].png"])[0].path == Path("[x].png")


@pytest.mark.parametrize(
    ("name", "relative"),
    [("t/./u/c.png", "u/c.png"), ("./t/u/c.png", "c.png"), ("././t/u/c.png", "t/u/c.png")],
)
def test_a_name_says_what_its_path_below_a_folder_is(tmp_path, monkeypatch, name, relative):
    monkeypatch.chdir(tmp_path)
    _touch(Path("t/u/c.png"))
    assert find_images([name]) == [ImageFile(Path("t/u/c.png"), Path(relative))]


def test_a_relative_path_stays_below_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _touch(Path("t/u/c.png"), Path("c.png"))
    assert find_images(["t/./u/../../c.png"])[0].relative == Path("c.png")


def test_what_is_not_there_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CnctlError, match="no such file or folder"):
        find_images([tmp_path / "missing"])
    with pytest.raises(CnctlError, match="no such file or folder"):
        find_images([str(tmp_path / "*.png")])
    with pytest.raises(CnctlError, match="holds no images"):
        find_images([tmp_path / "empty"])


def test_names_are_shown_on_one_line():
    assert shown("a\nb\x1b[2J.png") == r"a\nb\x1b[2J.png"
    assert shown(os.fsdecode(b"\xff\xfe.png")) == r"\udcff\udcfe.png"
    in_ascii = "straße.png".encode().decode("ascii", "surrogateescape")  # as LC_ALL=C may have it
    assert shown(in_ascii) == "straße.png"
    assert shown("\ud83d.png") == r"\ud83d.png"
    assert shown("Käse 猫.png") == "Käse 猫.png"


# --- fitting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "resolution", "expected"),
    [
        (512, 512, 512, (512, 512)),
        (300, 400, 512, (512, 680)),
        (400, 300, 512, (680, 512)),
        (513, 771, 512, (512, 768)),
        (1, 1, 64, (64, 64)),
        (1, 100, 8, (8, 800)),
        (30, 30, 3, (8, 8)),
    ],
)
def test_working_size(height, width, resolution, expected):
    assert working_size(height, width, resolution=resolution) == expected


def test_a_sliver_is_refused_in_one_sentence():
    with pytest.raises(CnctlError, match="8000 x 20 image would become 204800 x 512"):
        working_size(20, 8000, resolution=512)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 6)])
@pytest.mark.parametrize("size", [(10, 15), (45, 33), (20, 30)])
@pytest.mark.parametrize("resize", ["stretch", "crop", "fill"])
@pytest.mark.parametrize("nearest", [False, True])
def test_fit_keeps_dtype_and_channels(shape, size, resize, nearest):
    image = np.full(shape, 7, np.uint8)
    fitted = fit_image(image, size=size, resize=resize, nearest=nearest)
    assert fitted.dtype == np.uint8
    assert fitted.shape == (*size, *shape[2:])
    assert set(np.unique(fitted)) <= {0, 7}
    assert (resize == "fill") or (fitted == 7).all()


@pytest.mark.parametrize("size", [(7, 11), (45, 33)])
@pytest.mark.parametrize("nearest", [False, True])
def test_channels_are_fitted_each_alone_however_many(size, nearest):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 10), np.uint8)
    fitted = fit_image(image, size=size, nearest=nearest)
    alone = [fit_image(image[..., i], size=size, nearest=nearest) for i in range(10)]
    np.testing.assert_allclose(fitted, np.stack(alone, axis=2), atol=1)  # cubic ones round apart


def test_shrinking_averages_and_nearest_picks():
    board = (np.indices((8, 8)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.abs(fit_image(board, size=(4, 4)).astype(int) - 127).max() <= 1
    picked = fit_image(board, size=(16, 16), nearest=True)
    assert np.array_equal(picked, board.repeat(2, axis=0).repeat(2, axis=1))


def test_crop_and_fill_are_centred():
    image = np.zeros((4, 8), np.uint8)
    image[:, 4:] = 200
    cropped = fit_image(image, size=(4, 4), resize="crop")
    assert np.array_equal(cropped, image[:, 2:6])
    filled = fit_image(image, size=(8, 8), resize="fill")
    assert np.array_equal(filled, np.pad(image, ((2, 2), (0, 0))))


def test_fit_never_returns_its_input(picture):
    fitted = fit_image(picture, size=(24, 40))
    fitted[:] = 0
    assert picture.any()


def test_thin_lines_of_a_hint_survive_shrinking():
    """Straight lines of one pixel, at every offset, stay connected and thin."""
    for offset in range(4):
        hint = np.zeros((64, 64, 1), np.uint8)
        hint[:, 20 + offset] = 255
        fitted = fit_hint(hint, size=(16, 16))[:, :, 0]
        assert set(np.unique(fitted)) == {0, 255}
        assert (fitted.sum(axis=1) == 255).all()
    diagonal = np.eye(64, dtype=np.uint8)[:, :, None] * 255
    assert np.array_equal(
        fit_hint(diagonal, size=(16, 16)), np.eye(16, dtype=np.uint8)[:, :, None] * 255
    )


def test_other_hints_are_fitted_like_images(picture):
    smooth = fit_hint(picture, size=(12, 20))
    assert np.array_equal(smooth, fit_image(picture, size=(12, 20)))
    palette = np.random.default_rng(0).choice(np.uint8([7, 90, 200]), (32, 32, 3))
    assert np.isin(fit_hint(palette, size=(20, 24), palette=True), (7, 90, 200)).all()


# --- writing ------------------------------------------------------------------------------------


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


def test_unknown_suffixes_are_refused(tmp_path, picture):
    with pytest.raises(CnctlError, match=r"not written as \.bmp"):
        write_image(tmp_path / "a.bmp", picture)


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
    path = saved(tmp_path / "a.png", Image.fromarray(pixels))
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


# --- sixteen bits -------------------------------------------------------------------------------

DEEP = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32, 1)


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


def test_sixteen_bits_are_fitted_as_such():
    fitted = fit_hint(DEEP, size=(64, 64))
    assert fitted.dtype == np.uint16
    assert np.unique(fitted).size > 1000
    lines = np.where(np.eye(32), 65535, 0).astype(np.uint16)[..., None]
    assert set(np.unique(fit_hint(lines, size=(16, 16)))) == {0, 65535}


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
    assert copied_suffix(buffer.getvalue()) == suffix


def test_an_animation_is_said_to_be_read_in_part(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    data = (tmp_path / "a.gif").read_bytes()
    assert describe_frames(data, "a.gif") == "a.gif has 3 frames; the first is read"
    assert read_image(data, name="a.gif")[0, 0].tolist() == [255, 0, 0]
    frames[0].save(tmp_path / "a.png")
    assert describe_frames((tmp_path / "a.png").read_bytes(), "a.png") == ""
    frames[0].save(tmp_path / "a.mpo", save_all=True, append_images=frames[1:])
    assert describe_frames((tmp_path / "a.mpo").read_bytes(), "a.mpo") == ""
