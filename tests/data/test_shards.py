import io
import json
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cnctl.data import open_dataset
from cnctl.errors import CnctlError
from cnctl.images import read_hint, write_hint, write_image

IMAGE = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)


def write_shard(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, bytes]:
    """An image, its hint of six channels, and words, as files are."""
    write_image(tmp_path / "a.png", IMAGE)
    write_hint(tmp_path / "a.npz", np.full((16, 16, 6), 7, np.uint8))
    return {
        "a.png": (tmp_path / "a.png").read_bytes(),
        "a.hint.npz": (tmp_path / "a.npz").read_bytes(),
        "a.txt": b"a hill\n",
    }


def test_members_of_one_name_are_an_example(tmp_path: Path, parts: dict[str, bytes]) -> None:
    write_shard(tmp_path / "data/000.tar", parts)
    more = {
        "b/c.png": parts["a.png"],
        "b/c.json": json.dumps({"caption": "a lake"}).encode(),
        "b/c.cls": b"3",
        "alone.txt": b"no image",
    }
    write_shard(tmp_path / "data/001.tar", more)
    dataset = open_dataset(tmp_path / "data/*.tar", read_hint=partial(read_hint, channels=6))
    assert len(dataset) == 2
    first, second = dataset[0], dataset[1]
    np.testing.assert_array_equal(first.image, IMAGE)
    np.testing.assert_array_equal(first.hint, np.full((16, 16, 6), 7))
    assert (first.prompt, second.prompt, second.hint) == ("a hill", "a lake", None)
    assert [dataset.prompt(index) for index in range(2)] == ["a hill", "a lake"]
    assert [dataset.name(i) for i in range(2)] == [
        f"{tmp_path}/data/000.tar/a",
        f"{tmp_path}/data/001.tar/b/c",
    ]


def test_the_fingerprint_follows_the_members(tmp_path: Path, parts: dict[str, bytes]) -> None:
    path = write_shard(tmp_path / "a.tar", parts)
    before = open_dataset(path).fingerprint
    assert open_dataset(path).fingerprint == before
    write_shard(path, parts | {"a.txt": b"a hill and a lake"})
    assert open_dataset(path).fingerprint != before


def test_shards_of_other_kinds_are_refused(tmp_path: Path, parts: dict[str, bytes]) -> None:
    with pytest.raises(CnctlError, match="no such shard"):
        open_dataset(tmp_path / "*.tar")
    write_shard(tmp_path / "words.tar", {"a.txt": b"a hill"})
    with pytest.raises(CnctlError, match=r"words\.tar holds no images"):
        open_dataset(tmp_path / "words.tar")
    write_shard(tmp_path / "squeezed.tar", parts, "w:gz")
    with pytest.raises(
        CnctlError, match=r"squeezed\.tar is not an uncompressed tar file"
    ) as caught:
        open_dataset(tmp_path / "squeezed.tar")
    assert "decompress" in caught.value.hint


def test_what_happens_to_a_shard_later_is_named(tmp_path: Path, parts: dict[str, bytes]) -> None:
    path = write_shard(tmp_path / "a.tar", parts | {"b.png": parts["a.png"], "b.json": b"{"})
    dataset = open_dataset(path)
    with pytest.raises(CnctlError, match=r"a\.tar/b\.json is not JSON"):
        dataset[1]
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(CnctlError, match=r"a\.tar is truncated"):
        dataset[0]
