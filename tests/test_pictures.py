"""The pictures of README and docs are what the commands beside them make.

A PNG of `cnctl generate` says how it was made; that is compared with the page's own words.
"""

import hashlib
import json
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from cnctl.images import read_hint, read_image, read_metadata
from cnctl.models.locate import EMBEDDED
from cnctl.models.sd3 import published as sd3
from cnctl.models.unet import published as unet

ROOT = Path(__file__).parents[1]
CONTROLNETS = {**unet.CONTROLNETS, **sd3.CONTROLNETS}
PAGES = [
    ROOT / "README.md",
    *(
        path
        for folder in ("docs", "docs/conditions")
        for path in sorted((ROOT / folder).glob("*.md"))
    ),
]
WITHOUT_RECORD = {"bird-canny-hint.png", "drawings.png", "evaluate-rows.png", "steps.png"}


def shown_on(page: Path) -> set[Path]:
    """The PNG files of docs/images that a page shows."""
    names = re.findall(r"(?:docs/)?(images/[\w./-]+\.png)", page.read_text(encoding="utf-8"))
    paths = {ROOT / "docs" / name for name in names}
    return {path for path in paths if path.is_file()}


SHOWN = [(page, picture) for page in PAGES for picture in sorted(shown_on(page))]


def records(picture: Path) -> list[dict]:
    """How an image, or the images of a sheet, were made."""
    text = read_metadata(picture).get("cnctl")
    document = json.loads(text) if text else {"images": []}
    return document.get("images", [document])


def commands(page: Path) -> list[list[str]]:
    """The words of each `cnctl generate` of a page, and those of examples/toys.sh on README."""
    text = page.read_text(encoding="utf-8").replace("\\\n", "")
    lines = re.findall(r"cnctl generate .*", text)
    return [shlex.split(line.split("`")[0], comments=True) for line in lines]


def toys(page: Path) -> dict[str, tuple[str, str]]:
    """Picture -> condition and prompt of its row in README's table."""
    rows = re.findall(r"^\| (\w+) \| (.+?) \| <img src=\"(.+?)\"", page.read_text(), re.MULTILINE)
    return {Path(source).name: (condition, prompt) for condition, prompt, source in rows}


@cache
def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_only_these_pictures_have_no_record() -> None:
    assert {picture.name for _, picture in SHOWN if not records(picture)} == WITHOUT_RECORD


@pytest.mark.parametrize(
    ("page", "picture"), SHOWN, ids=[f"{page.stem}-{picture.name}" for page, picture in SHOWN]
)
def test_a_picture_is_made_by_the_command_beside_it(page: Path, picture: Path) -> None:
    for seed, record in enumerate(records(picture)):
        (control,) = record["controls"]
        source = next((ROOT / "examples").glob(f"*/{control['source']['name']}"))
        assert control["source"]["sha256"] == sha256(source)
        assert record["seed"] == seed
        (known,) = CONTROLNETS[record["base"]][control["condition"]]
        folder = EMBEDDED[known.family] / "controls" / known.source.partition("/")[2]
        network = folder / control["weights"]["name"]
        assert control["weights"]["sha256"] == sha256(network), "made by other weights"
        asked = (control["condition"], record["prompt"], record["base"])
        if picture.name in toys(page):
            assert asked == (*toys(page)[picture.name], "tiny")
        else:
            relative = str(source.relative_to(ROOT))
            fitting = [words for words in commands(page) if relative in words]
            flags = ("--cond", "-p", "--base")
            assert asked in [tuple(of(words, flag) for flag in flags) for words in fitting]


def of(words: list[str], flag: str) -> str:
    usual = {"--base": "tiny"}
    return words[words.index(flag) + 1] if flag in words else usual.get(flag, "")


def test_the_first_hint_is_that_of_the_first_picture() -> None:
    picture = ROOT / "docs/images/bird-canny-0.png"
    (record,) = records(picture)
    hint = read_hint(ROOT / "docs/images/bird-canny-hint.png", channels=3)
    assert record["controls"][0]["hint"]["sha256"] == hashlib.sha256(hint.tobytes()).hexdigest()


def test_the_first_picture_visibly_obeys_its_hint() -> None:
    """Edges found again in it are where the hint has them; README's point is to see that."""
    from cnctl.hints.metrics import edge_f1
    from cnctl.hints.run import load_detector
    from cnctl.registry import get_condition

    detect = load_detector(get_condition("canny"))
    hint = read_hint(ROOT / "docs/images/bird-canny-hint.png", channels=3)
    assert edge_f1(detect(read_image(ROOT / "docs/images/bird-canny-0.png")), hint) > 0.6
