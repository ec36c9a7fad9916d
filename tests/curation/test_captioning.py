"""Images without text are captioned; a text that is there stays."""

import json
from pathlib import Path

import pytest

from cnctl.commands.shared.captioner import open_captioner
from cnctl.errors import CnctlError, MissingError
from cnctl.hints.captioner import load_captioner
from cnctl.images import fit_image, read_image, working_size
from cnctl.models.families import load_base
from tests.curation.data_sets import digest, examples, make, reasons


def test_only_images_without_text_are_captioned(photos: Path) -> None:
    for path in photos.rglob("*.txt"):
        path.unlink()
    (photos / "b.txt").write_text("a text of its own")
    make(photos, caption=True, captioner="tiny", keep_all=True)
    caption = open_captioner(None, load_base("tiny"))
    found = {}
    for files in examples("out").values():
        record = json.loads(files["json"])
        found[record["source"]] = files["txt"].decode(), record["caption_source"]
    assert found.pop("b.jpg") == ("a text of its own", "text beside the image")
    assert found
    for name, (text, source) in found.items():
        image = read_image(photos / name)
        size = working_size(*image.shape[:2], resolution=64)
        assert text == caption(fit_image(image, size=size))
        assert source == "tiny"
    assert set(reasons("out").values()) == {None}
    before = digest("out")
    assert make(photos, caption=True, captioner="tiny", keep_all=True).made.was_done
    assert digest("out") == before


def test_a_batch_gets_the_captions_of_each_image_alone(photos: Path, blip: Path) -> None:
    for path in photos.rglob("*.txt"):
        path.unlink()
    make(photos, caption=True, captioner=str(blip), keep_all=True, batch_size=4)
    caption = load_captioner(str(blip), device="cpu")
    found = {}
    for files in examples("out").values():
        record = json.loads(files["json"])
        found[record["source"]] = files["txt"].decode()
        assert record["caption_source"] == "blip"
    assert len(found) > 4
    for name, text in found.items():
        image = read_image(photos / name)
        size = working_size(*image.shape[:2], resolution=64)
        assert [text] == caption([fit_image(image, size=size)])
    assert len(set(found.values())) > 1


@pytest.mark.parametrize(
    ("asked", "error", "what"),
    [
        ({"captioner": "tiny"}, CnctlError, "--captioner is for --caption"),
        ({"caption": True, "prompt": "a"}, CnctlError, "for the same images"),
        ({"caption": True, "captioner": "no/such"}, MissingError, "no captioner 'no/such'"),
    ],
)
def test_what_makes_no_sense_is_refused(photos: Path, asked, error, what: str) -> None:
    with pytest.raises(error, match=what):
        make(photos, **asked)
