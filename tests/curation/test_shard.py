"""What is in a shard: pixels against OpenCV called directly, bytes against other ways to them."""

import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cnctl.errors import CnctlError, DeviceError
from tests.curation.data_sets import (
    DEAD,
    EMPTY,
    FILLS,
    STUMBLES,
    decoded,
    digest,
    examples,
    make,
    paint,
    reasons,
    records,
    tar_of,
)

FIXED = ["low_threshold=50", "high_threshold=150"]


def test_hints_are_those_of_the_detector_and_images_are_copied(photos: Path) -> None:
    made = make(photos, options=FIXED)
    assert (made.made.tally.done, made.made.tally.rows) == (7, 7)
    found = examples("out")
    assert list(found) == [f"{number:09d}" for number in range(7)]
    image = (photos / "sub/e.jpg").read_bytes()
    example = next(each for each in found.values() if each.get("jpg") == image)
    assert example["txt"] == b"picture 4"
    picture = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
    working = cv2.resize(picture, (88, 64), interpolation=cv2.INTER_AREA)
    edges = cv2.Canny(working, 50, 150)
    assert np.array_equal(decoded(example["hint.png"]), np.repeat(edges[..., None], 3, axis=2))
    record = json.loads(example["json"])
    assert record["source"] == "sub/e.jpg"
    assert record["hints"]["canny"]["options"] == {"low_threshold": 50, "high_threshold": 150}


def test_the_bytes_do_not_depend_on_the_run(photos: Path) -> None:
    make(photos)
    make(photos, out="again")
    assert digest("out") == digest("again")


def test_options_are_drawn_by_seed_and_name(photos: Path) -> None:
    def options(out: str) -> list[str]:
        return [
            json.loads(each["json"])["hints"]["canny"]["options"] for each in examples(out).values()
        ]

    make(photos)
    make(photos, out="other", seed=1)
    make([photos / "z.png"], out="one")
    assert len({json.dumps(each) for each in options("out")}) > 4
    assert options("out") != options("other")
    assert options("out")[-1] == options("one")[0]


def test_headers_name_no_owner_and_no_time(photos: Path) -> None:
    make(photos)
    with tarfile.open("out/train/000000.tar") as tar:
        infos = tar.getmembers()
    assert {(info.mtime, info.uid, info.gid, info.uname, info.mode) for info in infos} == {
        (0, 0, 0, "", 0o644)
    }
    assert [info.name for info in infos[:4]] == [
        f"000000000.{kind}" for kind in ("png", "hint.png", "txt", "json")
    ]


def test_a_tar_file_has_the_bytes_that_tarfile_writes(photos: Path) -> None:
    make(photos, shards=7)
    again = io.BytesIO()
    with tarfile.open(fileobj=again, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, files in examples("out").items():
            for kind, data in files.items():
                info = tarfile.TarInfo(f"{key}.{kind}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    assert Path("out/train/000000.tar").read_bytes() == again.getvalue()


@pytest.mark.usefixtures("plugin")
def test_every_input_is_done_or_left_out_for_its_reason(photos: Path) -> None:
    paint(photos / "1-stumbles.png", 21, first=STUMBLES)
    paint(photos / "2-empty.png", 22, first=EMPTY)
    paint(photos / "3-dead.png", 23, first=DEAD)
    paint(photos / "4-tiny.png", 24, size=(40, 50))
    paint(photos / "5-wide.png", 25, size=(64, 600))
    Path(photos, "6-text.png").write_text("no image")
    Path(photos, "7-cut.jpg").write_bytes(Path(photos, "b.jpg").read_bytes()[:300])
    Path(photos, "8-empty.png").touch()
    Path(photos, "9-gone.png").symlink_to("nowhere")
    Path(photos, "b.txt").unlink()
    for path in photos.glob("[1-9]*.png"):
        path.with_suffix(".txt").write_text("a")
    made = make(photos, cond="brittle")
    assert {name: reason for name, reason in reasons("out").items() if reason} == {
        "1-stumbles.png": "detector failed",
        "2-empty.png": "nothing found",
        "3-dead.png": "dead hint",
        "4-tiny.png": "tiny",
        "5-wide.png": "odd aspect",
        "6-text.png": "cannot be decoded",
        "7-cut.jpg": "cannot be decoded",
        "8-empty.png": "cannot be decoded",
        "9-gone.png": "cannot be read",
        "b.jpg": "no caption",
    }
    tally = made.made.tally
    assert tally.done == len(examples("out")) == 6
    assert tally.done + tally.left_out.total() == tally.rows == len(records("out")) == 16
    assert made.failed == 5


@pytest.mark.usefixtures("plugin")
def test_an_image_for_which_memory_is_short_is_left_out_unless_it_is_for_every_one(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(photos / "1-fills.png", 21, first=FILLS)
    make(photos, cond="brittle", prompt="x")
    assert [name for name, reason in reasons("out").items() if reason] == ["1-fills.png"]
    failed = records("out")[0]
    assert failed["reason"] == "detector failed"
    assert "MemoryError" in failed["error"]
    monkeypatch.setenv("SMALL", "1")
    with pytest.raises(DeviceError, match="MemoryError"):
        make(photos, cond="brittle", prompt="x", out="none")


@pytest.mark.usefixtures("plugin")
def test_what_is_found_of_a_batch_is_what_is_found_alone(photos: Path) -> None:
    paint(photos / "y.png", 31, first=STUMBLES)
    make(photos, cond="together", batch_size=1, prompt="x")
    make(photos, cond="together", batch_size=4, out="batched", shards=8, prompt="x")
    assert list(reasons("out").values()).count("detector failed") == 1
    assert reasons("out") == reasons("batched")
    one, other = examples("out"), examples("batched")
    assert {key: each["hint.png"] for key, each in one.items()} == {
        key: each["hint.png"] for key, each in other.items()
    }


@pytest.mark.usefixtures("plugin")
def test_several_conditions_in_one_pass_with_their_data(photos: Path) -> None:
    make(photos, cond=["canny", "brittle"])
    first = examples("out")["000000000"]
    assert list(first) == ["png", "canny.png", "brittle.png", "brittle.json", "txt", "json"]
    assert json.loads(first["brittle.json"]).keys() == {"first"}
    assert set(records("out")[0]["numbers"]) >= {"canny.edge-density", "brittle.contrast"}


def test_images_are_written_again_where_others_would_not_see_what_we_see(photos: Path) -> None:
    picture = Image.open(photos / "b.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees
    picture.save(photos / "b.jpg", exif=exif, quality=95)
    Image.open(photos / "a.png").save(photos / "a.bmp")
    (photos / "a.png").unlink()
    make(photos)
    stored = {json.loads(e["json"])["source"]: e for e in examples("out").values()}
    assert json.loads(stored["b.jpg"]["json"])["image"] == "re-encoded"
    assert Image.open(io.BytesIO(stored["b.jpg"]["png"])).size == (72, 96)
    assert Image.open(io.BytesIO(stored["b.jpg"]["hint.png"])).size == (64, 88)
    assert json.loads(stored["a.bmp"]["json"])["image"] == "re-encoded"
    assert stored["a.bmp"].keys() >= {"png"}


def test_images_are_resized_to_the_size_of_their_hints(photos: Path) -> None:
    make(photos, images="resize")
    for example in examples("out").values():
        image = next(example[kind] for kind in ("jpg", "png") if kind in example)
        hint = Image.open(io.BytesIO(example["hint.png"]))
        assert Image.open(io.BytesIO(image)).size == hint.size == (88, 64)


def test_the_held_out_split_is_a_function_of_content(photos: Path) -> None:
    for number in range(20):
        paint(photos / f"more-{number}.png", 100 + number)
    make(photos, held_out=0.3, prompt="x")
    held = {json.loads(e["json"])["source"] for e in examples("out", "validation").values()}
    assert 2 < len(held) < 15
    assert len(examples("out")) + len(held) == 27
    Path(photos, "a.png").rename(photos / "q.png")
    Path("photos/a.txt").unlink()
    make(photos, held_out=0.3, prompt="x", out="renamed", shards=5)
    again = {json.loads(e["json"])["source"] for e in examples("renamed", "validation").values()}
    assert {name.replace("q.png", "a.png") for name in again} == held


def test_a_condition_without_weights_stops_the_run(photos: Path, monkeypatch) -> None:
    monkeypatch.setenv("CNCTL_DETECTORS", "nowhere")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "nowhere")
    with pytest.raises(CnctlError, match="not installed"):
        make(photos, cond="hed")


def test_nothing_in_a_tar_leads_out_of_the_output(photos: Path) -> None:
    image = (photos / "a.png").read_bytes()
    tar_of(Path("evil.tar"), {"../../up.png": image, "/root.png": image, "two\nlines.png": image})
    make("evil.tar", prompt="x", rules=["duplicates=off"])
    assert sorted(reasons("out").values(), key=str) == [None] * 3
    assert {json.loads(e["json"])["source"] for e in examples("out").values()} == {
        "../../up.png",
        "/root.png",
        "two\\nlines.png",
    }
    assert not list(Path.cwd().parent.glob("up*"))
