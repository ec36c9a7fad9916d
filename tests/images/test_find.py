import os
from pathlib import Path

import pytest

from cnctl.errors import CnctlError
from cnctl.images import (
    ImageFile,
    find_images,
    shown,
)


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


def test_photographs_that_cannot_be_read_are_found_so_that_they_are_named(tmp_path):
    _touch(tmp_path / "IMG_1.HEIC", tmp_path / "a.JPE", tmp_path / "scene.exr")
    assert [image.path.name for image in find_images([tmp_path])] == ["a.JPE", "IMG_1.HEIC"]


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
