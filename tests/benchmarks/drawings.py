"""How well tiny's ControlNets obey drawings and photographs of a world that they never saw.

    python tests/benchmarks/drawings.py [--base FOLDER] [--cond canny,hed] [--control WEIGHTS]
        [--prompt TEXT] [--sheet FILE.png]

Three styles of 32 drawings at 128 px, which nothing is trained on and whose code shares nothing
with `cnctl.tiny`: blobs inked with a thick line, flat posters of shapes, stripes and letters, and
pencil lines that break off. Beside them the photographs of examples/images, with four seeds each.
Prints the condition's metric of outputs for the base's default prompt, or another: against their
own hint, against another's, and of outputs without control against the hint; for canny it is the F1
of edges within 2 px. The hints of hed and scribble are made from Canny's edges, blurred, because
their detectors need weights; those of hough are LSD's lines. Of depth there is one style: the inked
blobs, each nearer than those below it, scored by the F1 of the map's edges. Fixed seeds.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cnctl.commands.generate.prompts import default_prompt
from cnctl.commands.shared.weights import open_control
from cnctl.hints.metrics import score
from cnctl.hints.run import hint_from_maps, load_detector
from cnctl.images import read_image
from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.network import Network, hint_tensor
from cnctl.plugin import Condition, Metric
from cnctl.registry import get_condition
from cnctl.sampling.denoise import Control, sample
from cnctl.tiny.scenes import soft_edges

SIDE, FINE = 128, 4
"""Pixels of a drawing, and how many times finer it is drawn."""
COUNT, BATCH, PHOTO_SEEDS = 32, 16, 4
HATCH = np.array([-10, 28])
"""From the start of a line of hatching to its end."""
LETTERS = "ABCDEGHKMNPRSTXZ23456789"
CONDITIONS = ("canny", "depth", "hed", "hough", "scribble")
Detect = Callable[[np.ndarray], np.ndarray | None]
PHOTOS = Path(__file__).parents[2] / "examples" / "images"


def ink(rng: np.random.Generator) -> Image.Image:
    """Blobs with wavy borders, filled flat, one over the other, under a thick dark line."""
    picture, pen = _paper(_colour(rng))
    for _ in range(rng.integers(2, 6)):
        points = _wavy(rng, centre=rng.uniform(25, 103, 2), radius=rng.uniform(12, 40))
        pen.polygon(_fine(points), fill=_colour(rng))
        line = [*_fine(points), *_fine(points[:2])]
        pen.line(line, fill=(25, 20, 30), width=int(rng.integers(2, 4)) * FINE, joint="curve")
    return picture


def relief(number: int) -> np.ndarray:
    """The depth of the drawing of this number in ink, RGB uint8 (128, 128, 3), near is white."""
    rng = np.random.default_rng([list(STYLES).index("ink"), number, 19])
    _colour(rng)
    picture, pen = _paper((0, 0, 0))
    count = rng.integers(2, 6)
    for above in range(count):
        points = _wavy(rng, centre=rng.uniform(25, 103, 2), radius=rng.uniform(12, 40))
        _colour(rng)
        rng.integers(2, 4)
        level = round(90 + 165 * (above + 1) / count)
        pen.polygon(_fine(points), fill=(level, level, level))
    return np.array(picture.resize((SIDE, SIDE), Image.Resampling.BOX))


def poster(rng: np.random.Generator) -> Image.Image:
    """Stripes, a disc or a polygon, and a large letter, without any outline."""
    first, second = _colour(rng), _colour(rng)
    picture, pen = _paper(first)
    width, slope = rng.uniform(9, 24), rng.uniform(-1, 1)
    for left in np.arange(-SIDE, 2 * SIDE, 2 * width):
        top, bottom = left, left + slope * SIDE
        band = [(top, 0), (top + width, 0), (bottom + width, SIDE), (bottom, SIDE)]
        if rng.random() < 0.8:
            pen.polygon(_fine(band), fill=second)
    corners = rng.integers(3, 9)
    turn = rng.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    middle, radius = rng.uniform(35, 93, 2), rng.uniform(18, 38)
    pen.polygon(_fine(middle + radius * _circle(turn)), fill=_colour(rng))
    font = ImageFont.load_default(size=float(rng.uniform(45, 95) * FINE))
    place = tuple(rng.uniform(25, 103, 2) * FINE)
    pen.text(place, rng.choice(list(LETTERS)), fill=_colour(rng), font=font, anchor="mm")
    return picture


def pencil(rng: np.random.Generator) -> Image.Image:
    """Trembling lines that break off, closed and open ones, and hatching, on grainy paper."""
    paper = int(rng.integers(215, 250))
    picture, pen = _paper((paper, paper, paper - 12))
    for _ in range(rng.integers(3, 7)):
        middle, radius = rng.uniform(20, 108, 2), rng.uniform(10, 45)
        points = _wavy(rng, centre=middle, radius=radius) if rng.random() < 0.6 else _path(rng)
        _broken(pen, rng, points)
    for _ in range(rng.integers(0, 3)):
        corner, step = rng.uniform(10, 90, 2), np.array([rng.uniform(5, 9), 0])
        for line in range(rng.integers(3, 7)):
            start = corner + step * line
            _broken(pen, rng, np.linspace(start, start + HATCH, 12))
    soft = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
    grain = rng.normal(0, 3, (SIDE, SIDE, 1))
    return Image.fromarray(np.clip(np.asarray(soft) + grain, 0, 255).astype(np.uint8))


STYLES: Mapping[str, Callable[[np.random.Generator], Image.Image]] = {
    "ink": ink,
    "poster": poster,
    "pencil": pencil,
}


def drawing(style: str, number: int) -> np.ndarray:
    """Drawing of a style, RGB uint8 (128, 128, 3): a pure function of its arguments."""
    rng = np.random.default_rng([list(STYLES).index(style), number, 19])
    return np.asarray(STYLES[style](rng).resize((SIDE, SIDE), Image.Resampling.BOX))


def photographs() -> list[np.ndarray]:
    """The middle squares of the photographs, RGB uint8 (128, 128, 3)."""
    found = []
    for path in sorted(PHOTOS.glob("*.jpg")):
        whole = Image.fromarray(read_image(path))
        side = min(whole.size)
        left, top = ((length - side) // 2 for length in whole.size)
        square = whole.crop((left, top, left + side, top + side))
        found.append(np.asarray(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
    return found


def _paper(colour: tuple[int, int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (SIDE * FINE, SIDE * FINE), colour)
    return picture, ImageDraw.Draw(picture)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(20, 250, 3).tolist()
    return red, green, blue


def _circle(turn: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


def _wavy(rng: np.random.Generator, *, centre: np.ndarray, radius: float) -> np.ndarray:
    """A closed curve (90, 2) whose radius is a sum of a few waves."""
    turn = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    waves = [rng.normal(0, 0.35 / k) * np.cos(k * turn + rng.uniform(0, 6)) for k in (1, 2, 3, 5)]
    return centre + radius * (1 + np.sum(waves, axis=0))[:, None] * _circle(turn)


def _path(rng: np.random.Generator) -> np.ndarray:
    """An open curve (60, 2) through the picture."""
    corners = rng.uniform(8, 120, (3, 2))
    share = np.linspace(0, 1, 60)[:, None]
    bent = (1 - share) ** 2 * corners[0] + 2 * share * (1 - share) * corners[1]
    return bent + share**2 * corners[2]


def _broken(pen: ImageDraw.ImageDraw, rng: np.random.Generator, points: np.ndarray) -> None:
    shaken = points + rng.normal(0, 0.5, points.shape)
    grey, width = int(rng.integers(30, 90)), int(rng.integers(4, 8))
    for start, end in pairwise(shaken):
        if rng.random() < 0.88:
            pen.line(_fine(np.stack([start, end])), fill=(grey, grey, grey), width=width)


def _fine(points: Sequence[tuple[float, float]] | np.ndarray) -> list[tuple[float, float]]:
    return [(float(x) * FINE, float(y) * FINE) for x, y in points]


def detector(condition: Condition) -> Detect:
    """How the hint of a picture is made."""
    if condition.from_maps is None:
        return load_detector(condition)

    def detect(picture: np.ndarray) -> np.ndarray | None:
        edges = soft_edges(cv2.Canny(picture, 100, 200))
        return hint_from_maps(condition, {"image": picture, "edges": edges})

    return detect


def scores(
    base: Base,
    condition: Condition,
    network: Network,
    pictures: Sequence[np.ndarray],
    free: Sequence[np.ndarray],
) -> dict[str, float]:
    """Fidelity to the own hint, another's, and without control. free: outputs without control."""
    detect = detector(condition)
    hints = [hint for picture in pictures if (hint := detect(picture)) is not None]
    obeyed = generate(base, network, hints)
    return fidelity(hints, obeyed, free, detect=detect, metric=condition.metric)


def scores_of_relief(
    base: Base, network: Network, free: Sequence[np.ndarray]
) -> dict[str, dict[str, float]]:
    """As `scores`, of depth maps: how well their edges are found in the outputs."""
    maps = [relief(number) for number in range(COUNT)]
    detect = detector(get_condition("canny"))
    edges = [cv2.Canny(each, 20, 40)[..., None].repeat(3, axis=2) for each in maps]
    obeyed = generate(base, network, maps)
    return {"ink": fidelity(edges, obeyed, free, detect=detect, metric="edge_f1")}


def fidelity(
    hints: Sequence[np.ndarray],
    obeyed: Sequence[np.ndarray],
    free: Sequence[np.ndarray],
    *,
    detect: Detect,
    metric: str | Metric,
) -> dict[str, float]:
    """The mean score of outputs against their own hint, another's, and without control."""

    def mean(wanted: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> float:
        pairs = zip(wanted, outputs, strict=True)
        return round(float(np.mean([score(metric, h, detect(o)) for h, o in pairs])), 3)

    wrong = [*hints[1:], *hints[:1]]
    return {
        "own": mean(hints, obeyed),
        "wrong": mean(wrong, obeyed),
        "none": mean(hints, free[: len(hints)]),
    }


def generate(base: Base, network: Network | None, hints: Sequence[np.ndarray]) -> list[np.ndarray]:
    """One output a hint, seed i for hint i."""
    outputs: list[np.ndarray] = []
    tensors = hint_tensor(hints, channels=3)
    for start in range(0, len(hints), BATCH):
        part = range(start, min(start + BATCH, len(hints)))
        control = [] if network is None else [Control(network, tensors[part.start : part.stop])]
        prompts = [default_prompt(base.defaults)] * len(part)
        guidance = float(base.defaults["guidance_scale"])
        scheduler = base.defaults.get("scheduler", "ddim")
        size = {"height": SIDE, "width": SIDE, "guidance_scale": guidance}
        outputs += list(sample(base, control, prompts, seeds=part, scheduler=scheduler, **size))
    return outputs


def write_sheet(
    path: str,
    base: Base,
    condition: Condition,
    network: Network,
    pictures: Sequence[np.ndarray],
) -> None:
    """Rows of pictures, hints and outputs."""
    detect = detector(condition)
    hints = [hint for picture in pictures if (hint := detect(picture)) is not None]
    rows = (pictures, hints, generate(base, network, hints))
    Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows])).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--cond", default="canny", help=f"some of {', '.join(CONDITIONS)}")
    parser.add_argument("--control", help="another ControlNet for the condition")
    parser.add_argument("--prompt", help="for all, in place of the base's default prompt")
    parser.add_argument("--sheet", help="where to write four of each, their hints and outputs")
    asked = parser.parse_args()
    if "," in asked.cond and (asked.sheet or asked.control):
        parser.error("--sheet and --control are for one condition")
    if asked.cond == "depth" and asked.sheet:
        parser.error("--sheet is for conditions that are detected in drawings")
    base = load_base(asked.base)
    if asked.prompt is not None:
        base = replace(base, defaults={**base.defaults, "default_prompt": asked.prompt})
    sets = {style: [drawing(style, i) for i in range(COUNT)] for style in STYLES}
    photos = photographs()
    shown = [picture for drawn in sets.values() for picture in drawn[:4]] + photos
    sets["photographs"] = photos * PHOTO_SEEDS
    free = generate(base, None, [np.zeros((SIDE, SIDE, 3), np.uint8)] * COUNT)
    found = {}
    for condition in map(get_condition, asked.cond.split(",")):
        network = open_control(condition, base, weights=asked.control)
        if condition.name == "depth":
            found["depth"] = scores_of_relief(base, network, free)
            continue
        if asked.sheet:
            write_sheet(asked.sheet, base, condition, network, shown)
        found[condition.name] = {
            name: scores(base, condition, network, each, free) for name, each in sets.items()
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
