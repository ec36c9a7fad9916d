"""Bad input through the command: one line, the right exit code, no half file."""

import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnctl.cli import main
from cnctl.images import read_hint

CANNY = ("annotate", "--cond", "canny", "--resolution", "64")


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def assert_refused(run, code: int, *words: str) -> None:
    """It ended with this code after one line on stderr that has these words, and no data."""
    assert run.returncode == code, run.stderr
    assert run.stdout == ""
    assert run.stderr.startswith("cnctl: ")
    assert run.stderr.count("\n") == 1, run.stderr
    for word in words:
        assert word in run.stderr


# --- images that work ---------------------------------------------------------------------------


def _odd_images(folder: Path) -> dict[str, tuple[int, int]]:
    """Unusual but sound images, each a bright box on dark -> the hint's (height, width)."""
    folder.mkdir()
    box = np.zeros((48, 64, 3), np.uint8)
    box[10:30, 20:50] = 255
    picture = Image.fromarray(box)
    alpha = Image.fromarray(np.dstack([255 - box, box[:, :, 0]]))
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(box[:, :, 0].astype(np.uint16) * 257).save(folder / "deep.png")
    alpha.save(folder / "alpha.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.quantize(4).save(folder / "palette.png")
    picture.save(folder / "moving.gif", save_all=True, append_images=[Image.new("RGB", (64, 48))])
    picture.save(folder / "turned.jpg", exif=turned)
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    sizes = dict.fromkeys(["alpha", "cmyk", "deep", "moving", "palette"], (64, 88))
    return sizes | {"turned": (88, 64), "dot": (64, 64)}


def test_unusual_images_work(cnctl, tmp_path):
    sizes = _odd_images(tmp_path / "odd")
    run = cnctl(*CANNY, "odd", "--json")
    assert (run.returncode, run.stderr.splitlines()) == (
        0,
        [
            "odd/dot.png: the hint of canny is empty; try other options",
            "odd/moving.gif has 2 frames; the first is read",
        ],
    )
    hints = {Path(hint["image"]).stem: hint["path"] for hint in json.loads(run.stdout)["hints"]}
    assert set(hints) == set(sizes)
    for name, size in sizes.items():
        hint = read_hint(tmp_path / hints[name], channels=1)
        assert hint.shape[:2] == size, name
        assert hint.any() == (name != "dot"), name


# --- images that do not -------------------------------------------------------------------------


def _bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * height))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _bad_images(folder: Path, good: bytes) -> dict[str, str]:
    """Files that give no image -> what must be said of each."""
    folder.mkdir()
    damaged = bytearray(good)
    damaged[60:80] = bytes(20)
    contents = {
        "bomb.png": (_bomb(9400, 9400), "has 9400 x 9400 pixels; the limit is 67 million"),
        "damaged.png": (bytes(damaged), "is damaged"),
        "empty.png": (b"", "is empty (0 bytes)"),
        "pointer.png": (b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer"),
        "text.png": (b"hello\n", "is a text file"),
        "truncated.png": (good[: len(good) // 2], "is truncated"),
    }
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    Image.new("RGB", (8000, 20)).save(folder / "sliver.png")
    sliver = {"sliver.png": "a 8000 x 20 image would become 204800 x 512 at resolution 512"}
    return {name: words for name, (_, words) in contents.items()} | sliver


def test_a_batch_tells_each_bad_image_and_does_the_rest(cnctl, photo, tmp_path):
    expected = _bad_images(tmp_path / "bad", (tmp_path / photo).read_bytes())
    (tmp_path / photo).rename(tmp_path / "bad/photo.png")
    run = cnctl("annotate", "--cond", "canny", "bad")
    assert run.returncode == 3
    assert run.stdout == "out/photo-canny.png\n"
    lines = run.stderr.splitlines()
    assert len(lines) == len(expected) + 1
    for name, words in expected.items():
        assert any(name in line and words in line for line in lines), name
    assert lines[-1] == f"cnctl: {len(expected)} of {len(expected) + 1} images failed"
    assert files_in(tmp_path / "out") == ["photo-canny.png"]


@pytest.mark.parametrize("name", ["bomb.png", "truncated.png"])
def test_a_single_bad_image_is_refused(cnctl, photo, tmp_path, name):
    words = _bad_images(tmp_path / "bad", (tmp_path / photo).read_bytes())[name]
    run = cnctl("annotate", "--cond", "canny", f"bad/{name}")
    assert_refused(run, 2, f"bad/{name}", words)
    assert not (tmp_path / "out").exists()


def test_what_is_not_there(cnctl, tmp_path):
    assert_refused(cnctl(*CANNY, "missing.png"), 2, "missing.png: no such file")


@pytest.mark.parametrize("words", [("annotate", "--cond", "canny"), ("info",)])
def test_what_may_not_be_read_is_named(cnctl, photo, tmp_path, words):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0)
    if os.access(folder, os.R_OK):
        pytest.skip("this user may read everything")
    assert_refused(cnctl(*words, "locked/a.png"), 2, "locked/a.png: permission denied")


@pytest.mark.slow
def test_a_folder_where_a_file_is_meant(cnctl, tmp_path):
    (tmp_path / "photo.png").mkdir()
    assert_refused(cnctl(*CANNY, "photo.png"), 2, "photo.png holds no images")
    run = cnctl("generate", "--cond", "canny", "photo.png", "-p", "cat", "--base", "tiny", "-q")
    assert_refused(run, 2, "photo.png holds no images")


# --- words that are not known -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--cond", "cany", "photo.png"), ("unknown condition 'cany'", "canny")),
        (
            ("--cond", "canny", "photo.png", "--option", "low=3"),
            ("no option 'low'", "low_threshold"),
        ),
        (("--cond", "canny", "photo.png", "--sharp"), ("--sharp",)),
        (("photo.png",), ("--cond",)),
    ],
)
def test_unknown_words(cnctl, photo, words, expected):
    assert_refused(cnctl("annotate", *words), 2, *expected)


# --- output -------------------------------------------------------------------------------------


def test_a_name_that_begins_with_a_dash(cnctl, photo, tmp_path):
    (tmp_path / photo).rename(tmp_path / "-x.png")
    refused = cnctl(*CANNY, "-x.png")
    assert refused.returncode == 2
    assert refused.stderr == "cnctl: -x.png is a file, and is read as flags; write ./-x.png\n"
    (tmp_path / "-photo.png").touch()  # -p would be given "hoto.png"
    assert "-photo.png is a file" in cnctl("generate", *CANNY[1:], "a.png", "-photo.png").stderr
    assert cnctl(*CANNY, "--", "-x.png").returncode == 0


def test_output_that_exists(cnctl, photo, tmp_path):
    (tmp_path / "hint.png").write_bytes(b"precious")
    run = cnctl(*CANNY, photo, "-o", "hint.png")
    assert_refused(run, 6, "hint.png exists already", "--overwrite")
    assert (tmp_path / "hint.png").read_bytes() == b"precious"
    assert cnctl(*CANNY, photo, "-o", "hint.png", "--overwrite").stdout == "hint.png\n"
    assert read_hint(tmp_path / "hint.png", channels=1).any()


@pytest.mark.parametrize("out", ["/proc/hints", "photo.png/below/x.png"])
def test_unwritable_output(cnctl, photo, tmp_path, out):
    """Root may write anywhere but below a file and in /proc."""
    run = cnctl(*CANNY, photo, "-o", out)
    assert_refused(run, 6, f"{out.removesuffix('/x.png')} cannot be written")
    assert files_in(tmp_path) == ["photo.png"]


def _small_disk() -> None:
    """No file may grow beyond 512 bytes: the kernel's own "file too large", for root as well."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))


def test_a_full_disk(cnctl_process, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    words = ("--option", "low_threshold=1", "--option", "high_threshold=1")
    run = cnctl_process(*CANNY, "noise.png", *words, preexec_fn=_small_disk)
    assert_refused(run, 6, "the disk is full")
    assert files_in(tmp_path) == ["noise.png"]


@pytest.mark.parametrize("words", [("--json",), pytest.param(("-o", "-"), marks=pytest.mark.slow)])
def test_a_full_disk_behind_stdout(cnctl_process, photo, words):
    with open("/dev/full", "wb") as full:
        run = cnctl_process(*CANNY, photo, *words, stdout=full)
    assert_refused(run, 6, "the output cannot be written: the disk is full")


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("-o", "-")])
def test_a_closed_pipe_is_quiet(cnctl_process, photo, words):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        run = cnctl_process(*CANNY, photo, *words, stdout=pipe)
    assert (run.returncode, run.stderr) == (141, "")


# --- signals ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_leaves_whole_files_and_the_run_can_be_repeated(
    command, cnctl_process, photo, tmp_path, number, code, word
):
    (tmp_path / "set").mkdir()
    for index in range(400):
        os.link(tmp_path / photo, tmp_path / f"set/{index}.png")
    with command(*CANNY, "set") as process:
        _wait_for(tmp_path / "out/3-canny.png")
        process.send_signal(number)
        output, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (code, f"cnctl: {word}\n".encode())
    made = files_in(tmp_path / "out")
    printed = {line.removeprefix("out/") for line in output.decode().splitlines()}
    assert printed <= set(made)
    assert len(made) - len(printed) <= 1  # the last one may have been written and not printed
    assert 3 < len(made) < 400
    assert all(name.endswith("-canny.png") for name in made)
    whole = (tmp_path / "out/0-canny.png").read_bytes()
    assert all((tmp_path / "out" / name).read_bytes() == whole for name in made)
    again = cnctl_process(*CANNY, "set")
    assert again.returncode == 0
    assert again.stderr.startswith(f"{len(made)} hints exist already")
    assert len(files_in(tmp_path / "out")) == 400


def test_the_sigterm_handler_is_restored():
    before = signal.getsignal(signal.SIGTERM)
    for flag, code in (("--version", 0), ("--no-such-flag", 2)):
        with pytest.raises(SystemExit) as end:
            main([flag])
        assert (end.value.code, signal.getsignal(signal.SIGTERM)) == (code, before)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.005)


WITHOUT_TEMPORARY_FOLDER = """
import tempfile
tempfile._candidate_tempdir_list = lambda: ["gone"]
from cnctl.cli import main
main(["conditions", "check", "canny"])
"""


def test_without_a_folder_for_temporary_files(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TEMPORARY_FOLDER],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert_refused(run, 6, "no folder for temporary files; set TMPDIR")
