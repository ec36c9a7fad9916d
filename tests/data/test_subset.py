import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cnctl.data import open_dataset, take_part
from cnctl.data.subset import choose
from cnctl.errors import CnctlError
from cnctl.images import write_image

NAMES = [f"image{number}" for number in range(1000)]


def test_the_largest_are_taken_in_their_order() -> None:
    sizes = [(3, 3), (1, 8), (2, 4), (1, 1), (5, 1)]
    assert choose(NAMES[:5], sizes.__getitem__, largest=1) == [0]
    assert choose(NAMES[:5], sizes.__getitem__, largest=3) == [0, 1, 2]


def test_samples_are_seeded_and_nested() -> None:
    def sample(count: int, seed: int = 0) -> set[int]:
        return set(choose(NAMES, lambda index: (1, 1), sample=count, seed=seed))

    assert sample(10) < sample(100) < sample(500)
    assert len(sample(10)) == 10
    assert sample(100) == sample(100)
    assert len(sample(100) & sample(100, seed=1)) < 30
    assert 400 < sum(sample(500)) / 500 < 600


def test_an_image_is_in_by_its_name_whatever_the_others_are() -> None:
    few = choose(NAMES[::2], lambda index: (1, 1), sample=50)
    many = choose(NAMES, lambda index: (1, 1), sample=100)
    in_both = {NAMES[::2][index] for index in few} & {NAMES[index] for index in many}
    assert len(in_both) > 30


def test_images_of_one_size_are_ranked_at_random() -> None:
    first, second = (
        choose(NAMES, lambda index: (1 + (index < 500), 1), largest=100, seed=seed)
        for seed in (0, 1)
    )
    assert first != second
    assert max(first) < 500


def test_a_sample_is_taken_of_the_largest() -> None:
    assert max(choose(NAMES, lambda index: (1000 - index, 1), largest=20, sample=5)) < 20


@pytest.mark.parametrize(("flag", "count"), [("largest", 1001), ("sample", 0)])
def test_more_than_there_are_is_refused(flag: str, count: int) -> None:
    with pytest.raises(CnctlError, match=f"--{flag} {count} of 1000 images"):
        choose(NAMES, lambda index: (1, 1), **{flag: count})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty pairs without hints; the image of number n is 8 + n pixels wide."""
    entries = []
    for number in range(40):
        image = np.full((8, 8 + number, 3), number, np.uint8)
        write_image(tmp_path / f"set/images/{number:02}.png", image)
        entries.append({"image": f"images/{number:02}.png", "prompt": str(number)})
    (tmp_path / "set/metadata.jsonl").write_text("\n".join(map(json.dumps, entries)))
    return tmp_path / "set"


def test_a_part_of_a_folder_keeps_its_examples_whole(folder: Path) -> None:
    part = take_part(open_dataset(folder), largest=10, sample=4, seed=3)
    assert len(part) == 4
    for index in range(4):
        number = int(part[index].prompt)
        assert number >= 30
        assert part[index].image.shape == (8, 8 + number, 3)
        assert part.name(index) == f"images/{number:02}.png"


def test_a_part_is_the_same_wherever_the_data_lie(folder: Path, tmp_path: Path) -> None:
    def prompts(spec: Path) -> list[str]:
        part = take_part(open_dataset(spec), sample=5, seed=1)
        return [part[index].prompt for index in range(len(part))]

    shutil.copytree(folder, tmp_path / "elsewhere/copy")
    assert prompts(tmp_path / "elsewhere/copy") == prompts(folder)
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        with tarfile.open(tmp_path / place / "0.tar", "w") as archive:
            for image in sorted((folder / "images").iterdir()):
                archive.add(image, image.name)
    first, second = (open_dataset(tmp_path / f"{place}/*.tar") for place in ("here", "there"))
    assert len(take_part(first, largest=7)) == 7
    assert {take_part(first, largest=7)[i].image.shape[1] for i in range(7)} == set(range(41, 48))
    names = [
        [Path(part.name(i)).name for i in range(5)]
        for part in (take_part(first, sample=5), take_part(second, sample=5))
    ]
    assert names[0] == names[1]


def test_scenes_have_no_largest() -> None:
    with pytest.raises(CnctlError, match="have one size"):
        take_part(open_dataset("scenes:20"), largest=10)
