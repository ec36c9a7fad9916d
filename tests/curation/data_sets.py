"""Small data sets: make them, and read what was made with other means than ours."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cnctl.commands.annotate.curate import CuratedSet, curate
from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.shared.events import ignore

KILLS, STUMBLES, EMPTY, DEAD, HANGS = (9, 0, 0), (0, 9, 0), (0, 0, 9), (9, 9, 9), (0, 9, 9)
FILLS = (9, 0, 9)
"""Colours of the first pixels at which the plugin of conftest.py fails."""


def paint(
    path: Path, seed: int = 0, *, size: tuple[int, int] = (72, 96), first: Any = None
) -> Path:
    """Write a picture, PNG, JPEG or WEBP, of which no two are alike. first: its first pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    if first is not None:
        image[:8, :8] = first
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image[..., ::-1])[1].tobytes())
    return path


def make(
    inputs: Any, out: str = "out", cond: Any = "canny", *, on_event: Any = ignore, **asked: Any
) -> CuratedSet:
    """Make a data set, in this process unless told otherwise."""
    given = [inputs] if isinstance(inputs, str | Path) else inputs
    usual = {"shards": 3, "workers": 0, "resolution": 64, "dataset": True}
    request = AnnotateRequest(conditions=cond, inputs=given, out=out, **{**usual, **asked})
    return curate(request, on_event=on_event)


def records(out: str | Path) -> list[dict[str, Any]]:
    """The records of all rows."""
    texts = [path.read_text() for path in sorted(Path(out, "records").iterdir())]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def reasons(out: str | Path) -> dict[str, str | None]:
    """Why rows are left out, by name; None for those that are not."""
    return {record["name"]: record["reason"] for record in records(out)}


def examples(out: str | Path, split: str = "train") -> dict[str, dict[str, bytes]]:
    """The files of all examples by the ends of their names, by key, as tarfile reads them."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(Path(out, split).glob("*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                key, _, kind = info.name.partition(".")
                content = tar.extractfile(info)
                assert content
                found.setdefault(key, {})[kind] = content.read()
    return found


def digest(out: str | Path) -> dict[str, str]:
    """The sha256 of each file of a data set by its path."""
    files = [path for path in sorted(Path(out).rglob("*")) if path.is_file()]
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def decoded(data: bytes) -> np.ndarray:
    """An image as OpenCV reads it, RGB."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    """A tar file with these members."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
