"""Small photographs, and a plugin that fails in every way."""

import os
from pathlib import Path

import pytest

from tests.curation.data_sets import paint

PLUGIN = """
import logging, os, signal, time, warnings
from cnctl.plugin import BatchDetector, Condition, Detection

def one(image):
    first = tuple(int(value) for value in image[0, 0])
    if first == (9, 0, 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if first == (0, 9, 9):
        time.sleep(60)
    if first == (0, 9, 0):
        raise RuntimeError("it stumbles")
    if first == (9, 0, 9) or "SMALL" in os.environ:
        raise MemoryError
    if first == (0, 0, 9):
        return None
    if first == (9, 9, 9):
        return image * 0
    return Detection(hint=255 - image, data={"first": list(first)})

brittle = Condition(name="brittle", summary="Fails", load_detector=lambda device: one)
together = Condition(
    name="together",
    summary="Many at once",
    load_detector=lambda device: BatchDetector(lambda images: [one(image) for image in images]),
)

def slow(device):
    logging.getLogger("stranger").warning("it chatters")
    warnings.warn("it chatters")
    def detect(image):
        time.sleep(float(os.environ.get("SLOW", "0.05")))
        return 255 - image
    return detect

slow = Condition(name="slow", summary="Slow", load_detector=slow)
"""
ENTRIES = "[cnctl.conditions]\n" + "".join(
    f"{name} = brittle_plugin:{name}\n" for name in ("brittle", "together", "slow")
)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's plugin, installed for this process and those that it starts."""
    site = tmp_path / "site"
    (site / "brittle_plugin-1.0.dist-info").mkdir(parents=True)
    (site / "brittle_plugin.py").write_text(PLUGIN)
    info = site / "brittle_plugin-1.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brittle-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", f"{site}:{os.environ.get('PYTHONPATH', '')}")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven photographs of three formats in a tree below the working folder, with captions."""
    monkeypatch.chdir(tmp_path)
    names = ["a.png", "b.jpg", "c.webp", "sub/d.png", "sub/e.jpg", "sub/deep/f.png", "z.png"]
    for number, name in enumerate(names):
        path = paint(Path("photos", name), number)
        path.with_suffix(".txt").write_text(f"picture {number}\n")
    return Path("photos")
