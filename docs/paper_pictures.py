"""The pictures of docs/paper.md, made by that page's own commands: python docs/paper_pictures.py.

Training takes some minutes of it. Commands write below ./out and ./runs, as on the page.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/paper.md"
PICTURES = ROOT / "docs/images/paper"
ROWS = {  # picture: the folders below ./out whose sheets it has, one below the other
    "modes": ("none", "default", "automatic", "user"),
    "pose": ("pose",),
    "six": ("canny", "hed", "hough", "depth", "normal", "scribble"),
    "simple": ("simple",),
    "coarse": ("coarse",),
    "limitation": ("limitation",),
}
PREVIEWED = (0, 100, 200, 300)
GAP = 8
QUALITY = 92


def commands(page: Path) -> list[str]:
    """The commands of a page's console blocks; a backslash continues one on the next line."""
    text = page.read_text(encoding="utf-8").replace("\\\n", "")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def joined(paths: Sequence[Path], *, down: bool) -> Image.Image:
    """Pictures one below the other, or side by side, on white."""
    pictures = [Image.open(path).convert("RGB") for path in paths]
    lengths = [(p.height if down else p.width) + GAP for p in pictures]
    across = max(p.width if down else p.height for p in pictures)
    size = (across, sum(lengths) - GAP) if down else (sum(lengths) - GAP, across)
    whole = Image.new("RGB", size, "white")
    for i, picture in enumerate(pictures):
        place = sum(lengths[:i])
        whole.paste(picture, (0, place) if down else (place, 0))
    return whole


def sheet(folder: str) -> Path:
    (path,) = Path("out", folder).glob("*-grid.png")
    return path


def make_pictures() -> dict[str, Image.Image]:
    """From what the page's commands have written below the present folder."""
    pictures = {
        name: joined([sheet(folder) for folder in folders], down=True)
        for name, folders in ROWS.items()
    }
    edited = [ROOT / f"examples/hints/{what}-house.png" for what in ("image", "mask")]
    pictures["edit"] = joined([*edited, sheet("edit")], down=False)
    previews = [Path(f"runs/canny/previews/step-{step:08d}.png") for step in PREVIEWED]
    pictures["convergence"] = joined(previews, down=False)
    return pictures


if __name__ == "__main__":
    for command in commands(PAGE):
        subprocess.run(shlex.split(command), check=True)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, picture in make_pictures().items():
        picture.save(PICTURES / f"{name}.jpg", quality=QUALITY, subsampling=0)
        print(PICTURES / f"{name}.jpg")
