"""The scores of the embedded base on held-out scenes, as one JSON document.

    python tests/benchmarks/tiny.py [--base FOLDER] [--only canny,depth]

Class and colour, over 192 prompts: by a classifier that is trained here, from scratch, and whose
own score on held-out scenes stands beside. Each ControlNet, over 64 scenes: fidelity by its
condition's metric with control, without, of the same outputs to another scene's hint, and of the
scenes themselves after the autoencoder's round trip, the ceiling. Everything has fixed seeds.
"""

import argparse
import json
from collections.abc import Callable, Sequence

import numpy as np
import torch

from cnctl.data.scenes import SceneDataset
from cnctl.hints.metrics import find_metric, score
from cnctl.hints.run import hint_from_maps, load_detector
from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.latents import decode_latents, encode_images
from cnctl.models.unet.load import load_controlnet
from cnctl.plugin import Condition
from cnctl.registry import get_condition
from cnctl.sampling.denoise import Control, sample
from cnctl.tiny.scenes import HELD_OUT, Scene, exact_maps, render_scene
from examples.tiny import base as recipe
from examples.tiny.judge import class_and_colour, train_judge
from examples.tiny.train_autoencoder import round_trip

SCENES = 64
BATCH = 16
PEOPLE = {"openpose"}
"""Conditions that only scenes with a person have hints for."""
Make = Callable[[Scene], np.ndarray | None]
Detect = Callable[[np.ndarray], np.ndarray | None]


def makers(condition: Condition) -> tuple[Make, Detect]:
    """How a scene's hint is made, and how it is found again in a picture."""
    if condition.from_maps is None:
        detect = load_detector(condition)
        return lambda scene: detect(scene.image), detect
    read = SceneDataset(count=1, size=128).read
    return (
        lambda scene: hint_from_maps(condition, exact_maps(scene)),
        lambda image: hint_from_maps(condition, read(image)),
    )


def generate(
    base: Base, prompts: Sequence[str], guidance_scale: float, control: Callable | None = None
) -> list[np.ndarray]:
    """One output a prompt, seed i for prompt i."""
    outputs: list[np.ndarray] = []
    for start in range(0, len(prompts), BATCH):
        part = range(start, min(start + BATCH, len(prompts)))
        outputs += list(
            sample(
                base,
                [control(part)] if control else [],
                [prompts[i] for i in part],
                seeds=part,
                height=base.resolution,
                width=base.resolution,
                guidance_scale=guidance_scale,
            )
        )
    return outputs


def control_scores(base: Base, name: str, guidance_scale: float) -> dict[str, object]:
    """Fidelity of one ControlNet."""
    condition = get_condition(name)
    make, detect = makers(condition)
    show = "person" if name in PEOPLE else None
    drawn = [render_scene(HELD_OUT + i, show=show) for i in range(SCENES)]
    made = [(scene, hint) for scene in drawn if (hint := make(scene)) is not None]
    scenes, hints = [scene for scene, _ in made], [hint for _, hint in made]
    controlnet, _ = load_controlnet(base.path / "controls" / name, dtype=base.dtype)
    tensors = torch.from_numpy(np.stack(hints)).permute(0, 3, 1, 2).float() / 255

    def control(part: range) -> Control:
        return Control(controlnet, tensors[part.start : part.stop])

    prompts = [scene.prompt for scene in scenes]
    obeyed = generate(base, prompts, guidance_scale, control)
    free = generate(base, prompts, guidance_scale)
    copies = decode_latents(base, encode_images(base, np.stack([s.image for s in scenes])))
    wrong = hints[1:] + hints[:1]

    def mean(wanted: Sequence[np.ndarray], pictures: Sequence[np.ndarray]) -> float:
        pairs = zip(wanted, pictures, strict=True)
        return round(float(np.mean([score(condition.metric, h, detect(p)) for h, p in pairs])), 3)

    return {
        "metric": find_metric(condition.metric).name,
        "with": mean(hints, obeyed),
        "without": mean(hints, free),
        "wrong_hint": mean(wrong, obeyed),
        "ceiling": mean(hints, copies),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--only", default="", help="ControlNets, by their conditions' names")
    arguments = parser.parse_args()
    base = load_base(arguments.base)
    guidance_scale = recipe.read_guidance_scale(base.path)
    scores: dict[str, object] = {}
    if not arguments.only:
        parts = recipe.load_base(base.path)
        judge, judged = train_judge()
        scores["autoencoder"] = round_trip(parts.vae, 256)
        scores["judge"] = judged
        scores["base"] = class_and_colour(parts, judge, guidance_scale=guidance_scale)
    found = sorted(folder.name for folder in (base.path / "controls").iterdir())
    for name in arguments.only.split(",") if arguments.only else found:
        scores[name] = control_scores(base, name, guidance_scale)
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()
