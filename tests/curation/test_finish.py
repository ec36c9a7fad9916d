"""What is done over the whole set: duplicates, subsets and the report."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnctl.curation.duplicates import find_duplicates
from tests.curation.data_sets import make, paint, records


def by_definition(hashes: list[int], distance: int) -> list[int]:
    kept: list[int] = []
    found = []
    for index, each in enumerate(hashes):
        like = [k for k in kept if (hashes[k] ^ each).bit_count() <= distance]
        found.append(like[0] if like else -1)
        if not like:
            kept.append(index)
    return found


NEAR = st.lists(st.integers(0, 63), max_size=4).map(lambda bits: sum({1 << bit for bit in bits}))


@given(st.lists(NEAR, max_size=30), st.integers(0, 7))
def test_duplicates_are_those_of_the_definition(hashes: list[int], distance: int) -> None:
    found = find_duplicates(np.array(hashes, np.uint64), distance)
    assert [each >= 0 for each in found] == [each >= 0 for each in by_definition(hashes, distance)]
    for index, like in enumerate(found):
        if like >= 0:
            assert like < index
            assert found[like] == -1
            assert (hashes[like] ^ hashes[index]).bit_count() <= distance


def test_subsets_are_nested_and_drawn_by_content(photos: Path) -> None:
    made = make(photos, subsets="2,5,100")
    assert made.notes() == ["subsets/100.jsonl has all 7 examples, and not 100"]
    lines = {n: Path(f"out/subsets/{n}.jsonl").read_text().splitlines() for n in (2, 5, 100)}
    assert {n: len(found) for n, found in lines.items()} == {2: 2, 5: 5, 100: 7}
    assert lines[2] == lines[5][:2] == lines[100][:2]
    names = [json.loads(line)["name"] for line in lines[2]]
    Path("photos/0").mkdir()
    paint(photos / "0/new.png", 200)  # every other row has another number then
    make(photos, subsets="2,5,100", prompt="x", out="more", shards=4)
    again = [
        json.loads(line)["name"] for line in Path("more/subsets/100.jsonl").read_text().splitlines()
    ]
    again.remove("0/new.png")
    assert again[:2] == names


def test_the_report_counts_what_the_records_say(photos: Path) -> None:
    paint(photos / "tiny.png", 50, size=(20, 20))
    Path(photos, "bad<b>.png").write_text("no image")
    first, *others = (Image.new("RGB", (80, 64), (9, 9, n)) for n in range(3))
    first.save(photos / "frames.gif", save_all=True, append_images=others)
    made = make(photos, prompt="x", held_out=0.4)
    assert made.notes() == ["1 image has several frames; the first is read"]
    report = json.loads(Path("out/report.json").read_text())
    found = records("out")
    assert (report["rows"], report["done"], report["several_frames"]) == (10, 7, 1)
    assert report["left_out"] == {"cannot be decoded": 1, "dead hint": 1, "tiny": 1}
    assert report["splits"] == Counter(r["split"] for r in found if not r["reason"])
    assert report["captions"] == {"text beside the image": 7}
    for name, histogram in report["histograms"].items():
        values = [r["numbers"][name] for r in found if name in r["numbers"]]
        counts, _ = np.histogram(values, bins=20, range=(min(values), max(values) or 1))
        assert sum(histogram["counts"]) == len(values)
        if len(set(values)) > 1:
            assert histogram["counts"] == counts.tolist(), name
    page = Path("out/report.html").read_text()
    assert "bad&lt;b&gt;.png is a text file" in page
    assert "bad<b>" not in page
    assert page.count("data:image/webp;base64,") == 7 + 2
    assert 'src="http' not in page
