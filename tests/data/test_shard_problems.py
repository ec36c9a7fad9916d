"""Shards that broke off, hold a key twice, or hold what is not read."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from cnctl.data import open_dataset
from cnctl.data.problems import Problem, refuse_fatal
from cnctl.errors import CnctlError
from cnctl.images import encode_image

IMAGE = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
PNG = encode_image(IMAGE, ".png", {})
HINT = encode_image(255 - IMAGE, ".png", {})
JPG = encode_image(255 - IMAGE, ".jpg", {})
BLOCK = tarfile.BLOCKSIZE

Members = Mapping[str, bytes] | list[tuple[str, bytes]]


def write(path: Path, members: Members) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def samples(count: int = 3) -> dict[str, bytes]:
    return {
        f"{number}.{kind}": data
        for number in range(count)
        for kind, data in (("png", PNG), ("hint.png", HINT), ("txt", b"a ball"))
    }


def problems(path: Path, **how: str) -> list[Problem]:
    return [*open_dataset(path, **how).problems]  # type: ignore[arg-type]


def start(path: Path, name: str) -> int:
    """The offset of a member's header."""
    with tarfile.open(path) as archive:
        return archive.getmember(name).offset


@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        (0, "it has no end mark"),
        (100, "it ends within a header"),
        (BLOCK + 10, "its last member is cut off"),
    ],
)
def test_a_shard_that_broke_off_is_named_with_what_it_lost(
    tmp_path: Path, extra: int, fault: str
) -> None:
    path = write(tmp_path / "a.tar", samples())
    path.write_bytes(path.read_bytes()[: start(path, "2.hint.png") + extra])
    with pytest.raises(CnctlError, match=rf"a\.tar: it is incomplete: {fault}") as caught:
        refuse_fatal(problems(path))
    assert "; 1 of its 3 samples lacks a hint; 1 of its 3 samples lacks a prompt" in str(
        caught.value
    )
    assert caught.value.hint == "copy or write it again, or leave it out"


def test_a_shard_that_broke_off_in_its_first_member_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", samples())
    path.write_bytes(path.read_bytes()[: BLOCK + 10])
    with pytest.raises(CnctlError, match=r"a\.tar: it is incomplete: its last member is cut off"):
        open_dataset(path)


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", samples())
    data = bytearray(path.read_bytes())
    data[start(path, "1.png")] ^= 1
    path.write_bytes(data)
    (problem,) = problems(path)
    assert problem.fatal
    assert "it is damaged: what follows byte" in problem.what


def test_shards_joined_into_one_file_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", samples())
    path.write_bytes(path.read_bytes() * 2)
    (problem,) = problems(path)
    assert (problem.fatal, problem.what[:34]) == (True, "other data follow its end mark, an")


def test_one_block_of_zeros_ends_a_shard(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", samples())
    with tarfile.open(path) as archive:
        end = max(m.offset_data + -(-m.size // BLOCK) * BLOCK for m in archive)
    path.write_bytes(path.read_bytes()[: end + BLOCK])
    assert problems(path) == []


def test_links_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", samples())
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("3.txt")
        info.type, info.linkname = tarfile.LNKTYPE, "0.txt"
        archive.addfile(info)
    (problem,) = problems(path)
    assert problem.what == "links or sparse files: 1 member, the first is 3.txt"


def test_a_key_twice_replaces_nothing_unsaid(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", [*samples().items(), ("1.png", HINT), ("1.txt", b"other")])
    with pytest.raises(CnctlError, match=r"a\.tar/1: its key is there more than once \(png, txt\)"):
        refuse_fatal(problems(path))
    example = open_dataset(path)[1]
    np.testing.assert_array_equal(example.image, IMAGE)
    assert example.prompt == "a ball"


@pytest.mark.parametrize(
    ("image", "hint", "prompt"),
    [("image", "hint", "caption"), ("images", "conditioning", "captions")],
)
def test_parts_in_folders(tmp_path: Path, image: str, hint: str, prompt: str) -> None:
    members = {
        **{f"{image}/{n}.png": PNG for n in range(2)},
        **{f"{hint}/{n}.png": HINT for n in range(2)},
        **{f"{prompt}/{n}.txt": b"a ball" for n in range(2)},
    }
    path = write(tmp_path / "a.tar", members)
    dataset = open_dataset(path)
    assert (len(dataset), dataset.ready_hints, dataset.problems) == (2, 2, ())
    np.testing.assert_array_equal(dataset[1].image, IMAGE)
    np.testing.assert_array_equal(dataset[1].hint, 255 - IMAGE)
    assert dataset[1].prompt == "a ball"
    assert dataset.name(1) == f"{path}/1"


@pytest.mark.parametrize("root", ["img/", ""])
def test_hints_in_a_folder_of_another_name_are_not_trained_on_as_images(
    tmp_path: Path, root: str
) -> None:
    members = {f"{root}{n}.png": PNG for n in range(3)} | {f"canny/{n}.png": HINT for n in range(2)}
    path = write(tmp_path / "a.tar", members)
    with pytest.raises(CnctlError, match=r"/ and canny/ hold 2 images of equal names") as caught:
        refuse_fatal(problems(path))
    columns = caught.value.hint.split()[1]
    assert columns == ("image=img,hint=canny" if root else "hint=canny")
    dataset = open_dataset(path, columns=columns)
    assert (len(dataset), dataset.ready_hints) == (3, 2)
    np.testing.assert_array_equal(dataset[1].hint, 255 - IMAGE)
    assert len(open_dataset(path, columns="hint=")) == 5


@pytest.mark.parametrize(("kind", "data"), [("hint.jpg", JPG), ("canny.png", HINT), ("png", HINT)])
def test_a_hint_of_another_name_is_never_detected(tmp_path: Path, kind: str, data: bytes) -> None:
    members = {"0.jpg": JPG, f"0.{kind}": data, "1.jpg": JPG, f"1.{kind}": data}
    path = write(tmp_path / "a.tar", members)
    with pytest.raises(CnctlError, match="2 of 2 examples have no hint, and '") as caught:
        refuse_fatal(problems(path))
    assert caught.value.hint.startswith(f"--columns hint={kind} reads it")
    mapped = open_dataset(path, columns=f"hint={kind}")
    assert (mapped.ready_hints, mapped.problems) == (2, ())
    assert mapped[1].hint is not None


def test_parts_that_are_not_read_are_named(tmp_path: Path) -> None:
    members = samples(2) | {
        "0.cls": b"3",
        "1.cls": b"4",
        "1.mask.png": HINT,
        "8.txt": b"no image",
        "9.hint.png": HINT,
        "9.txt": b"nor here",
    }
    found = problems(write(tmp_path / "a.tar", members))
    assert not any(problem.fatal for problem in found)
    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in found] == [
        "a.tar/8: it has a prompt and no image, and is not read",
        "a.tar/9: it has a hint and a prompt and no image, and is not read",
        "a.tar: not read: 2 members .cls, the first is a.tar/0.cls (--columns maps them)",
        "a.tar: not read: 1 member .mask.png, the first is a.tar/1.mask.png (--columns maps them)",
    ]


def test_prompts_in_json(tmp_path: Path) -> None:
    entry = json.dumps({"title": "a ball", "width": 16}).encode()
    path = write(tmp_path / "a.tar", {"0.png": PNG, "0.hint.png": HINT, "0.json": entry})
    with pytest.raises(CnctlError, match=r"a\.tar/0\.json has no 'prompt' or 'text'") as caught:
        open_dataset(path)[0]
    assert caught.value.hint == "it has title, width; --columns prompt=KEY names it"
    assert open_dataset(path, columns="prompt=title")[0].prompt == "a ball"
    assert open_dataset(path, columns="prompt=")[0].prompt == ""
    with pytest.raises(CnctlError, match="has no 'depth'"):
        open_dataset(path, columns="hint=depth,prompt=title")
    both = json.dumps({"prompt": "", "caption": "a ball"}).encode()
    path = write(tmp_path / "b.tar", {"0.png": PNG, "0.hint.png": HINT, "0.json": both})
    assert open_dataset(path)[0].prompt == "a ball"


def test_texts_are_utf_8(tmp_path: Path) -> None:
    members = {"0.png": PNG, "0.txt": "\ufeffa\u2028ball\n".encode(), "1.png": HINT}
    dataset = open_dataset(write(tmp_path / "a.tar", members | {"1.txt": b"z\xfcrich"}))
    assert dataset[0].prompt == "a\u2028ball"
    with pytest.raises(CnctlError, match=r"a\.tar/1\.txt, line 1, is not UTF-8"):
        dataset[1]


def test_a_mapped_part_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", samples())
    with pytest.raises(CnctlError, match=r"hint=depth: .*a\.tar has no 'depth'"):
        open_dataset(path, columns="hint=depth")
