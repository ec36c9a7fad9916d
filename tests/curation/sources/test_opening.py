"""Which rows the inputs have, and what they hold; all read again by other means."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.annotate.run import annotate
from cnctl.curation.rows import Row, from_line, to_line
from cnctl.curation.sources.opening import Inputs, find_rows
from cnctl.curation.sources.reading import read_row
from cnctl.errors import CnctlError
from tests.curation.data_sets import decoded, make, paint, reasons, records, tar_of


def rows(*given: str | Path, without: str = "out", **asked) -> list[Row]:
    inputs = Inputs(given=[str(item) for item in given], **asked)
    return list(find_rows(inputs, without=Path(without).absolute()))


def names(*given: str | Path, **asked) -> list[str]:
    return [row.name for row in rows(*given, **asked)]


def contents(found: list[Row]) -> list[tuple[bytes, str, str]]:
    return [tuple(read_row(row, {})) for row in found]


def test_a_folder_is_walked_in_natural_order_without_the_output(photos: Path) -> None:
    for name in ("img10.png", "img2.png", ".hidden.png", "out/mine.png", "out2/x.PNG"):
        paint(photos / name)
    assert names(photos, without="photos/out") == [
        *("a.png", "b.jpg", "c.webp", "img2.png", "img10.png", "out2/x.PNG"),
        *("sub/d.png", "sub/deep/f.png", "sub/e.jpg", "z.png"),
    ]


def test_loops_of_links_are_not_followed(photos: Path) -> None:
    (photos / "sub/loop").symlink_to(photos.absolute())
    (photos / "self.png").symlink_to("self.png")
    found = rows(photos)
    assert len(found) == 8
    with pytest.raises(CnctlError, match=r"self\.png"):
        read_row(next(row for row in found if row.name == "self.png"), {})


@pytest.mark.parametrize("hint", ["conditioning/a.png", "a-condlabel.png"])
def test_hints_of_a_training_set_are_not_taken_for_images(tmp_path: Path, hint: str) -> None:
    paint(tmp_path / "images/a.png")
    assert names(tmp_path) == ["images/a.png"]
    paint(tmp_path / hint)
    with pytest.raises(CnctlError, match=r"is a training set: .* is for hints"):
        rows(tmp_path)


def test_hints_that_annotate_wrote_are_not_images(photos: Path) -> None:
    everything = names(photos)
    annotate(AnnotateRequest(conditions="canny", inputs=[photos], out=photos, resolution=64))
    make("photos/sub", "photos/pairs", shards=None, prompt="x", resolution=64)
    told: list[str] = []
    found = names(photos, note=told.append)
    assert [name for name in found if "pairs" not in name] == everything
    assert not [name for name in found if name.endswith(".hint.png")]
    assert told == [
        "10 hints that annotate wrote: not read as images; give such a file by its name to use it"
    ]
    assert len(rows(photos / "a-canny.png")) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_a_row(photos: Path) -> None:
    (photos / "sub").chmod(0)
    try:
        assert "sub/" in names(photos)
    finally:
        (photos / "sub").chmod(0o755)


def test_names_of_any_bytes_come_through_the_plan(photos: Path) -> None:
    for name in (b"caf\xe9.png", b"two\nlines.png", "名.png".encode()):
        Path(os.fsdecode(os.fsencode(photos) + b"/" + name)).write_bytes(
            (photos / "a.png").read_bytes()
        )
    found = rows(photos)
    assert [from_line(to_line(row)) for row in found] == found
    assert {os.fsencode(row.name) for row in found} >= {b"caf\xe9.png", b"two\nlines.png"}
    make(photos, prompt="x")
    assert len(records("out")) == 10


def test_two_files_of_one_name_are_both_kept(photos: Path) -> None:
    paint(Path("other/a.png"), 77)
    (photos / "a.jpg").write_bytes((photos / "b.jpg").read_bytes())
    make([photos, "other"], prompt="x", rules=["duplicates=off"])
    assert [r["name"] for r in records("out")].count("a.png") == 2
    assert all(r["reason"] is None for r in records("out"))


def test_a_glob_gives_names_below_its_plain_part(photos: Path) -> None:
    assert names("photos/**/*.png") == ["a.png", "sub/d.png", "sub/deep/f.png", "z.png"]
    with pytest.raises(CnctlError, match="no such file"):
        names("photos/*.gif")
    Path("photos/a.txt").write_text("a caption")
    for pattern in ("photos/*", "photos/*.*"):
        assert names(pattern) == ["a.png", "b.jpg", "c.webp", "z.png"]


def test_lists_name_files_and_captions(photos: Path) -> None:
    Path("photos/list.txt").write_bytes(b"\xef\xbb\xbfa.png\r\n\nsub/e.jpg\nnone.png\n")
    found = rows("photos/list.txt")
    assert [row.name for row in found] == ["a.png", "sub/e.jpg", "none.png"]
    assert contents(found[:1]) == [
        ((photos / "a.png").read_bytes(), "picture 0", "text beside the image")
    ]
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerows([["path", "caption"], ["a.png", "red,\n  round"], ["b.jpg"], ["z.png", ""]])
    Path("photos/list.csv").write_text(table.getvalue())
    assert [row.place[0] for row in rows("photos/list.csv")] == ["file", "broken", "file"]
    (first, *_, last) = contents([r for r in rows("photos/list.csv") if r.place[0] == "file"])
    assert first[1:] == ("red, round", "list")
    assert last[1:] == ("picture 6", "text beside the image")
    lines = [{"file_name": "a.png", "text": "one"}, "no object", {"other": 1}]
    text = "\n".join([*map(json.dumps, lines), "{broken"])
    Path("photos/list.jsonl").write_text(text)
    assert [row.place[0] for row in rows("photos/list.jsonl")] == ["file", *["broken"] * 3]
    assert rows("photos/list.jsonl", columns={"image": "other"})[0].place[0] == "broken"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "photos/a.png\n"),
        ("list.csv", "image\nphotos/a.png\n"),
        ("list.jsonl", '{"image": "photos/a.png"}\n'),
    ],
)
def test_lists_in_utf16_are_refused(photos: Path, name: str, text: str) -> None:
    Path(name).write_text(text, encoding="utf-8")
    assert names(name) == ["photos/a.png"]
    Path(name).write_text(text, encoding="utf-16")
    with pytest.raises(CnctlError, match=f"{name} is UTF-16 text"):
        rows(name)


def test_a_list_without_the_column_is_refused(photos: Path) -> None:
    Path("list.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CnctlError, match="no column 'image'"):
        rows("list.csv")
    with pytest.raises(CnctlError, match=r"prompt=c: list\.csv has no 'c'"):
        rows("list.csv", columns={"image": "a", "prompt": "c"})


def test_a_caption_that_is_not_text_is_not_replaced(photos: Path) -> None:
    texts = [5, ["a", "b"], None, "it"]
    lines = [json.dumps({"image": "a.png", "text": text, "caption": "other"}) for text in texts]
    Path("photos/list.jsonl").write_text("\n".join([*lines, '{"image": 7}']))
    found = rows("photos/list.jsonl")
    assert [row.place[1] for row in found if row.place[0] == "broken"] == [
        *["its 'text' is not text"] * 2,
        "its 'image' is not a path",
    ]
    assert [row.caption for row in found if row.place[0] == "file"] == ["other", "it"]


def test_lines_that_an_open_quotation_mark_swallows_are_named(photos: Path) -> None:
    Path("list.csv").write_text('image,text\nphotos/a.png,one\nphotos/b.jpg,"two\nx,3\ny,4\n')
    assert names("list.csv") == ["photos/a.png", "lines 3 to 5 of list.csv"]


@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_paths_come_on_standard_input(
    photos: Path, monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    text = end.join([b"photos/a.png", b"photos/caf\xe9.png", b"photos/b.jpg"]) + end
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    found = rows(paths="-")
    assert [os.fsencode(row.name) for row in found] == text.split(end)[:3]
    assert contents([found[2]])[0][0] == (photos / "b.jpg").read_bytes()


def test_long_lists_are_split_at_every_piece(photos: Path) -> None:
    wanted = [f"photos/{number:0{1 + number % 50}d}.png" for number in range(60_000)]
    Path("long.txt").write_text("\n".join(wanted))
    assert names(paths="long.txt") == wanted


def test_shards_give_images_and_texts(photos: Path) -> None:
    a, b = (photos / "a.png").read_bytes(), (photos / "b.jpg").read_bytes()
    members = {
        "0.png": a,
        "0.txt": b" one \n two",
        "1.jpg": b,
        "1.json": json.dumps({"caption": "three"}).encode(),
        "2.png": a,
        "2.json": b"{",
        "3.hint.png": a,
        "4.png": a,
        "4.jpg": b,
        "5.bmp": b,
        "6.1.png": a,
        "._7.png": a,
    }
    tar_of(Path("0.tar"), members)
    *found, other, unread = rows("*.tar")
    assert [row.name for row in found] == ["0.png", "1.jpg", "2.png", "3", "4.png", "4.jpg"]
    assert contents([other]) == [(b, "", "")]
    assert unread.place[1] == "no image, but 1.png; --columns image=1.png reads it"
    lone_hint = found.pop(3)
    assert lone_hint.place == ("broken", "no image, but hint.png")
    good = contents([row for row in found if row.name != "2.png"])
    assert good == [
        (a, "one two", "txt in the shard"),
        (b, "three", "json in the shard"),
        (a, "", ""),
        (b, "", ""),
    ]
    with pytest.raises(CnctlError, match="is not JSON"):
        read_row(found[2], {})


def test_a_tar_that_breaks_off_is_told_and_its_whole_members_are_used(photos: Path) -> None:
    image = (photos / "a.png").read_bytes()
    path = tar_of(Path("cut.tar"), {f"{n}.png": image for n in range(4)})
    path.write_bytes(path.read_bytes()[: 3 * (len(image) + 1024)])
    Path("text.tar").write_text("no tar")
    make(["cut.tar", "text.tar"], prompt="x", rules=["duplicates=off"])
    found = [(r["name"], r["reason"], r["error"]) for r in records("out")]
    assert [(name, reason) for name, reason, _ in found] == [
        *((f"{n}.png", None) for n in range(len(found) - 2)),
        ("cut.tar", "cannot be read"),
        ("text.tar", "cannot be read"),
    ]
    assert 2 <= len(found) - 2 < 4
    assert "incomplete" in found[-2][2]


def test_shards_at_a_url(photos: Path, serve) -> None:
    image = (photos / "a.png").read_bytes()
    for number in range(2):
        tar_of(Path(f"photos/{number}.tar"), {"x.png": image, "x.txt": b"far"})
    with serve(photos) as server:
        url = f"{server.url}/{{0..1}}.tar"
        assert contents(rows(url)) == [(image, "far", "txt in the shard")] * 2
        make(url.replace("http://", "http://me:secret@"), rules=["duplicates=off"])
    assert [r["reason"] for r in records("out")] == [None, None]
    texts = [path.read_bytes() for path in Path("out").rglob("*") if path.is_file()]
    assert not any(b"secret" in text for text in texts)


def test_folders_of_datasets(photos: Path) -> None:
    datasets = pytest.importorskip("datasets")
    names_of = ["a.png", "b.jpg"]
    images = [{"bytes": (photos / name).read_bytes(), "path": None} for name in names_of]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    table = datasets.Dataset.from_dict({"image": images, "text": ["one", " "]}, features=features)
    table.to_parquet("tables/data.parquet")
    table.save_to_disk("saved")
    wanted = [
        ((photos / "a.png").read_bytes(), "one", "column text"),
        ((photos / "b.jpg").read_bytes(), "", ""),
    ]
    for given in ("tables", "tables/data.parquet", "saved"):
        assert contents(rows(given)) == wanted
    paths = datasets.Dataset.from_dict({"path": names_of})
    paths.to_parquet("photos/paths.parquet")
    assert [found[0] for found in contents(rows("photos/paths.parquet"))] == [w[0] for w in wanted]


def test_tables_that_are_damaged_are_rows(photos: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from pyarrow import Table

    image = (photos / "a.png").read_bytes()
    table = Table.from_pydict({"image": [image] * 2})
    Path("tables").mkdir()
    for name in "abc":
        parquet.write_table(table, f"tables/{name}.parquet", row_group_size=1)
    cut, damaged = Path("tables/b.parquet"), Path("tables/c.parquet")
    cut.write_bytes(cut.read_bytes()[:-9])
    Path("tables/d.parquet").touch()
    data = damaged.read_bytes()
    damaged.write_bytes(data[:4] + bytes(40) + data[44:])
    make("tables", prompt="x", rules=["duplicates=off"])
    assert [(r["name"], r["reason"]) for r in records("out")] == [
        ("a.parquet, row 0 of group 0", None),
        ("a.parquet, row 0 of group 1", None),
        ("b.parquet", "cannot be read"),
        ("c.parquet, row 0 of group 0", "cannot be read"),
        ("c.parquet, row 0 of group 1", None),
        ("d.parquet", "cannot be read"),
    ]
    assert "tables/b.parquet cannot be read: " in records("out")[2]["error"]


def test_an_imagefolder_is_read_by_its_metadata(photos: Path) -> None:
    Path("photos/metadata.jsonl").write_text('{"file_name": "sub/e.jpg", "text": "it"}\n')
    told: list[str] = []
    assert names(photos, note=told.append) == ["sub/e.jpg"]
    (line,) = told
    assert line.startswith("photos/metadata.jsonl is read; the folder's other files and the hints")
    with pytest.raises(CnctlError, match=r"photos/metadata\.jsonl is not read with \."):
        rows(".")
    assert "photos/a.png" in names("./**")


def test_captions_among_the_inputs_are_no_lists(photos: Path) -> None:
    Path("photos/a.txt").write_text("a red house\n")
    Path("photos/empty.txt").touch()
    notes: list[str] = []
    found = rows("photos/a.png", "photos/a.txt", note=notes.append)
    assert contents(found)[0][1] == "a red house"
    assert notes == ["photos/a.txt: read as captions of images, not as lists"]
    with pytest.raises(CnctlError, match=r"empty\.txt holds no images"):
        rows("photos/empty.txt")


def test_frames_of_a_video(photos: Path) -> None:
    shades = [20 * number for number in range(12)]
    writer = cv2.VideoWriter("photos/clip.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 72))
    for shade in shades:
        writer.write(np.full((72, 96, 3), shade, np.uint8))
    writer.release()
    assert "clip.avi" not in " ".join(names(photos))
    found = rows(photos / "clip.avi", every=5)
    assert [row.name for row in found] == [f"clip.avi, frame {number}" for number in (0, 5, 10)]
    backwards = [decoded(content[0]).mean() for content in contents(found[::-1])]
    assert np.allclose(backwards, [200, 100, 0], atol=3)
    with pytest.raises(CnctlError, match="is a video"):
        names(photos / "clip.avi")
    whole = (photos / "clip.avi").read_bytes()
    (photos / "cut.avi").write_bytes(whole[: len(whole) * 4 // 5])
    told: list[str] = []
    cut = rows(photos / "cut.avi", every=1, note=told.append)
    assert told == [
        f"photos/cut.avi: only {len(cut)} of 12 frames can be decoded; it may be cut off"
    ]
    (photos / "bad.mp4").write_text("no video")
    assert [row.place[0] for row in rows(photos / "bad.mp4", every=5)] == ["broken"]


def test_there_is_nothing_to_do(photos: Path) -> None:
    Path("none").mkdir()
    Path("none.txt").write_text("\n")
    for given in ("none", "none.txt"):
        with pytest.raises(CnctlError, match="holds no images"):
            make(given)
    with pytest.raises(CnctlError, match="no such file"):
        make("nowhere")


def test_the_largest_and_a_sample_are_those_of_train(photos: Path) -> None:
    from cnctl.data.subset import choose
    from cnctl.images import read_size

    for number in range(12):
        paint(photos / f"more-{number}.png", number, size=(72 + 8 * (number % 5), 96))
    everything = rows(photos)
    found = [row.name for row in everything]
    chosen = choose(found, lambda i: read_size(photos / found[i]), largest=9, sample=4, seed=3)
    make(photos, largest=9, sample=4, seed=3, prompt="x", rules=["duplicates=off"])
    assert list(reasons("out")) == [found[index] for index in chosen]
